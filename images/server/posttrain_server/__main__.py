"""`python -m posttrain_server`: the image's entry point. One command for each container of a server pod, and
one for vLLM beside a trainer."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from posttrain_api import server_contract, trainer_contract, uri
from posttrain_api.artifact import Dtype


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 2 where what was asked for cannot be."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options) or 0)
    except (ValueError, FileNotFoundError) as error:
        print(f"posttrain_server: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="posttrain_server", description=__doc__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_key(commands.add_parser("key", help="write the key that agent and gateway share"))
    _add_engine(commands.add_parser("engine", help="run vLLM behind the gateway"))
    _add_agent(commands.add_parser("agent", help="load, prove and watch the adapters of one engine"))
    _add_rollout(commands.add_parser("rollout", help="run vLLM beside a trainer, for no one but the pod"))
    return parser


def _add_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--file", type=Path, default=Path(server_contract.KEY_FILE), help="where to write it")
    parser.set_defaults(run=_run_key)


def _add_shared(parser: argparse.ArgumentParser, *, port: int) -> None:
    parser.add_argument("--base", required=True, help="the base model: pvc://claim/path or file:///path")
    parser.add_argument("--max-rank", type=int, required=True, help="largest LoRA rank")
    parser.add_argument("--max-cached-adapters", type=int, default=32, help="adapters that are kept in memory")
    parser.add_argument("--key-file", type=Path, default=Path(server_contract.KEY_FILE))
    parser.add_argument("--claims-root", type=Path, default=Path(uri.CLAIMS_ROOT), help="where claims are mounted")
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=port)


def _add_engine(parser: argparse.ArgumentParser) -> None:
    _add_shared(parser, port=server_contract.ENGINE_PORT)
    parser.add_argument("--max-loaded-adapters", type=int, default=8, help="adapters that one batch may use")
    parser.add_argument("--max-model-length", type=int, help="longest request with its answer, in tokens")
    parser.add_argument(
        "--dtype", choices=["auto", *get_args(Dtype)], default="auto", help="auto: the checkpoint's own"
    )
    parser.add_argument("--chat-template", type=Path, help="for requests to a base that has none")
    parser.add_argument("--gpus", type=int, default=0, help="number of GPUs; 0 serves from the CPU")
    parser.set_defaults(run=_run_engine)


def _add_agent(parser: argparse.ArgumentParser) -> None:
    _add_shared(parser, port=server_contract.AGENT_PORT)
    parser.add_argument("--engine", default=f"http://127.0.0.1:{server_contract.ENGINE_PORT}", help="its URL")
    parser.add_argument("--token-file", type=Path, default=Path(server_contract.TOKEN_FILE))
    parser.add_argument("--desired-file", type=Path, default=Path(server_contract.DESIRED_FILE))
    parser.add_argument("--state-folder", type=Path, default=Path(server_contract.STATE_FOLDER))
    parser.set_defaults(run=_run_agent)


def _add_rollout(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base", required=True, help="the base model: pvc://claim/path or file:///path")
    parser.add_argument("--max-rank", type=int, required=True, help="largest LoRA rank that vLLM knows for the adapter")
    parser.add_argument("--max-model-length", type=int, required=True, help="longest prompt with its answer, in tokens")
    parser.add_argument("--dtype", choices=get_args(Dtype), required=True)
    parser.add_argument("--port", type=int, default=trainer_contract.ROLLOUT_PORT)
    parser.add_argument("--gpus", type=int, default=0, help="number of GPUs; 0 answers from the CPU")
    parser.add_argument("--gpu-memory-utilization", type=float, default=0.3, help="share of a GPU's memory to take")
    parser.add_argument("--claims-root", type=Path, default=Path(uri.CLAIMS_ROOT), help="where claims are mounted")
    parser.set_defaults(run=_run_rollout)


def _run_key(options: argparse.Namespace) -> None:
    from posttrain_server import key

    key.write(options.file)


def _run_engine(options: argparse.Namespace) -> None:
    from posttrain_server import checkpoint, engine

    base = _folder(options.base, options.claims_root)
    settings = engine.EngineSettings(
        base=base,
        key_file=options.key_file,
        dtype=engine.resolve_dtype(options.dtype, base),
        max_rank=options.max_rank,
        max_loaded_adapters=options.max_loaded_adapters,
        max_cached_adapters=options.max_cached_adapters,
        max_model_length=options.max_model_length,
        chat_template=options.chat_template,
        host=options.host,
        port=options.port,
        num_gpus=options.gpus,
        runner=checkpoint.runner(base),
    )
    engine.run(settings, os.environ)


def _run_agent(options: argparse.Namespace) -> None:
    from posttrain_server.agent import service
    from posttrain_server.agent.reconcile import AgentSettings

    agent = AgentSettings(
        desired_file=options.desired_file,
        max_rank=options.max_rank,
        max_cached_adapters=options.max_cached_adapters,
    )
    service.run(
        service.ServiceSettings(
            agent=agent,
            base=_folder(options.base, options.claims_root),
            engine_url=options.engine,
            key_file=options.key_file,
            token_file=options.token_file,
            state_folder=options.state_folder.absolute(),
            claims_root=options.claims_root,
            host=options.host,
            port=options.port,
        )
    )


def _run_rollout(options: argparse.Namespace) -> None:
    from posttrain_server import rollout

    base = _folder(options.base, options.claims_root)
    settings = rollout.RolloutSettings(
        base=base,
        dtype=options.dtype,
        max_rank=options.max_rank,
        max_model_length=rollout.fitting_length(options.max_model_length, base),
        port=options.port,
        num_gpus=options.gpus,
        gpu_memory_utilization=options.gpu_memory_utilization,
    )
    rollout.run(settings, os.environ)


def _folder(location: str, claims_root: Path) -> Path:
    claim, path = uri.parse(location)
    return Path("/") / path if claim is None else claims_root / claim / path


if __name__ == "__main__":
    sys.exit(main())

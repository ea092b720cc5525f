"""Where a URI or a ConfigMap's key lies: in a pod under fixed mounts, elsewhere where the caller says."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from posttrain_api import uri
from posttrain_api.meta import KeyReference
from posttrain_api.trainer_contract import CONFIG_MAPS, ROLLOUT_FOLDER, TOKENS_FOLDER, Source
from posttrain_api.v1alpha1.environment import Dataset, PythonReward, Tools

ROWS_FILE = "rows.jsonl"
"""What a run that makes a dataset publishes it as."""


@dataclass(frozen=True)
class Places:
    """The folders under which claims and ConfigMaps are found."""

    claims: Path = Path(uri.CLAIMS_ROOT)
    config_maps: Path = Path(CONFIG_MAPS)
    image: Path = Path("/")
    """Where file:///path begins."""
    tokens: Path = Path(TOKENS_FOLDER)
    """The token of environment.rewards.N.http is N/token in it."""
    rewards_socket: Path | None = None
    """Where a server runs reward code that is not ours; None: whoever needs it starts one."""

    rollout_url: str | None = None
    """Where vLLM answers beside the trainer, for rollout.mode server."""
    rollout_folder: Path = Path(ROLLOUT_FOLDER)
    """A folder that it shares with the trainer."""

    @classmethod
    def of(cls, options: argparse.Namespace) -> Self:
        """The places that a command line gives; those of a pod where it says nothing."""
        return cls(
            options.claims_root or cls.claims,
            options.config_maps_root or cls.config_maps,
            options.image_root or cls.image,
            rewards_socket=options.rewards_socket,
            rollout_url=options.rollout_url,
        )

    def path(self, location: str) -> Path:
        """The local path of a pvc:// or file:// URI."""
        claim, path = uri.parse(location)
        return self.image / path if claim is None else self.claims / claim / path

    def key(self, reference: KeyReference) -> Path:
        """The local path of a ConfigMap's key."""
        return self.config_maps / reference.name / reference.key

    def code(self, given: PythonReward | Tools) -> Path:
        """The local folder of a user's modules."""
        if given.config_map is not None:
            return self.config_maps / given.config_map.name
        assert given.uri is not None
        return self.path(given.uri)

    def dataset(self, dataset: Dataset, source: Source | None = None) -> tuple[str, Path]:
        """What to call a dataset in a message, and its local path; `source` is the run that made it, if one did."""
        if dataset.from_run is not None:
            assert source is not None, "dataset.fromRun without its source"
            return f"the rows that run {source.run} kept", self.path(source.uri) / ROWS_FILE
        if dataset.config_map is not None:
            return f"ConfigMap {dataset.config_map.name}, key {dataset.config_map.key}", self.key(dataset.config_map)
        assert dataset.uri is not None
        return dataset.uri, self.path(dataset.uri)

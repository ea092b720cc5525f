"""The contract is light: whoever imports it gets pydantic and the standard library, nothing else."""

import subprocess
import sys

HEAVY = ["torch", "transformers", "trl", "peft", "vllm", "kopf", "kubernetes", "yaml", "aiohttp", "prometheus_client"]


def test_the_contract_imports_nothing_heavy():
    program = (
        "import sys, posttrain_api.crd, posttrain_api.trainer_contract, posttrain_api.server_contract\n"
        "import posttrain_api.environment_report\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"

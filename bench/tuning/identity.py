"""What the steps of a search depend on: with another network, machine or version they are worth nothing."""

from cnnport.measuring.environment import read_environment
from cnnport.measuring.record import Json
from cnnport.measuring.tuning.building import Source
from cnnport.measuring.tuning.candidate import Candidate
from cnnport.measuring.tuning.tuned import Wishes


def identity_of(wishes: Wishes, source: Source, samples: str, plain: Candidate) -> Json:
    """All of it, as plain JSON values; neither the budget nor a latency to reach makes another search.

    Args:
        wishes: What is asked for.
        source: Of what.
        samples: Key of the samples that judge.
        plain: What everything is held against.
    """
    environment = read_environment()
    return {
        "model": "" if source.is_file else wishes.model,
        "base": source.base.sha256,
        "weights": source.weights,
        "samples": samples,
        "calibration": wishes.calibration,
        "max_drop": wishes.max_drop,
        "batch": wishes.batch,
        "plain": plain.name,
        "cpu": environment.cpu_model,
        "cpus": list(environment.cpus_allowed),
        "packages": dict(environment.packages),
    }

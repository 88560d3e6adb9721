"""Networks of the zoo say the same everywhere; ``python -m cnnport.measuring.studies.parity`` has all of them."""

from collections.abc import Callable

import pytest

from cnnport.agreement import Plan, Request, parity
from cnnport.artifact import Artifact
from cnnport.errors import CnnportError
from cnnport.measuring.studies import parity as study
from cnnport.measuring.studies.parity_page import markdown


@pytest.mark.parametrize(
    ("name", "precisions", "plan"),
    [
        ("lenet5", ("fp32", "fp16", "int8"), Plan(checks=False)),
        ("digits_shufflenet_v2", ("fp32", "int8"), Plan(checks=False)),
        ("shufflenet_v2_x1_0", ("fp32",), Plan(extremes=False, checks=False)),
    ],
)
def test_every_runtime_and_precision(
    name: str, precisions: tuple[str, ...], plan: Plan, exported: Callable[[str], Artifact]
) -> None:
    artifact = exported(name)
    request = Request(
        files=((name, artifact),), named=frozenset({name}), precisions=precisions, plan=plan, count=16
    )
    matrix = parity(request)
    assert matrix.reference == "torch-cpu fp32"
    assert matrix.ok, [row.failures for row in matrix.rows]
    assert {row.candidate.precision for row in matrix.rows} == set(precisions)
    assert [each.reason for each in matrix.left] == [
        "PyTorch runs the network in floating point: 8 bits are the file's alone"
    ] * ("int8" in precisions)
    if name == "lenet5":
        # Down to a lead of a thousandth of the deviation, float32 decides alike everywhere.
        decided = [each for row in matrix.rows for each in row.sets if row.candidate.precision == "fp32"]
        assert all(each.worst is not None and each.worst.widest_flip < 1e-3 for each in decided)


def test_the_study_goes_on_where_it_stopped(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    check = {"name": "batch", "pass": True, "same_bits": True, "error_in_std": 0.0, "detail": ""}

    def found(name: str) -> dict:
        asked.append(name)
        if name == "digits_resnet" and len(asked) < 3:
            raise CnnportError("the cable\nwas pulled")
        row = {
            "candidate": "ort-cpu int8",
            "runtime": "ort-cpu",
            "precision": "int8",
            "max_abs": 0.1,
            "error_in_std": 0.02,
            "sqnr_db": "inf",
            "cosine": 0.9999,
            "top1_agreement": 0.99,
            "top1_interval": [0.96, 0.997],
            "pass": name != "lenet5",
            "checks": [check],
            "notes": [],
            "failures": ["SQNR 3 dB"] if name == "lenet5" else [],
        }
        return {"pass": row["pass"], "rows": [row], "reference_checks": [check]}

    monkeypatch.setattr(study, "parity_of", found)
    arguments = [str(tmp_path), "lenet5", "digits_resnet", "--record", str(tmp_path / "parity.json")]
    assert study.main(arguments) == 1
    page = (tmp_path / "parity.md").read_text()
    assert "- lenet5, ort-cpu int8: SQNR 3 dB" in page
    assert "- digits_resnet: the cable was pulled" in page
    assert "| lenet5 | ort-cpu | int8 | 2.0e-02 | ∞ | 0.999900 | 99.0 % (96.0 to 99.7) |" in page
    study.main(arguments)
    assert asked == ["lenet5", "digits_resnet", "digits_resnet"]
    assert "the cable" not in (tmp_path / "parity.md").read_text()
    assert study.main([str(tmp_path), "none"]) == 2
    assert markdown([]).startswith("# Parity")

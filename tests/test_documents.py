"""What the documents state and where they err, network by network."""

import json
from importlib import resources

from cnnport import registry
from cnnport.documents import documented


def test_every_network_has_its_sources() -> None:
    for spec in registry.specs():
        known = documented(spec.name)
        assert known is not None, spec.name
        assert known.statement


def test_corrections_name_networks_that_exist() -> None:
    data = json.loads(resources.files("cnnport.data").joinpath("documents.json").read_text(encoding="utf-8"))
    listed = {name for row in data["corrections"] for name in row["networks"]}
    assert listed <= set(data["networks"])
    assert {row["document"] for row in data["corrections"]} <= set(data["titles"])


def test_the_vgg_table_is_corrected() -> None:
    known = documented("vgg11")
    assert known is not None
    assert any("132,863,336" in correction.correct for correction in known.corrections)
    assert "Classic CNNs" in known.documents


def test_a_network_from_outside_has_none() -> None:
    assert documented("mine") is None

"""Every worked example of docs/gallery runs as it stands, in a fresh folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from gallery import blocks

ROOT = Path(__file__).parents[1]
PAGES = ("shufflenet_to_browser", "custom_model_to_int8", "faster_existing_file", "regression_gate")


def page(name: str) -> Path:
    return ROOT / "docs" / "gallery" / f"{name}.md"


def run(source: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        [sys.executable, str(ROOT / "tests/gallery.py"), str(source)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )


@pytest.mark.parametrize("name", PAGES)
def test_the_page_runs(name: str, tmp_path: Path) -> None:
    done = run(page(name), tmp_path / "here")
    if name == "shufflenet_to_browser" and "cannot fetch" in done.stderr:
        pytest.skip("no npm registry, and nothing in the cache")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_page_has_a_test() -> None:
    assert {path.stem for path in (ROOT / "docs/gallery").glob("*.md")} == set(PAGES)


def test_a_failing_block_fails_the_page(tmp_path: Path) -> None:
    source = tmp_path / "page.md"
    for text in ("```bash\nfalse\ntouch after\n```\n", "```python\nassert 1 == 2\n```\n"):
        source.write_text(f"# A page\n\n{text}\n```bash\ntouch after\n```\n")
        assert run(source, tmp_path / "here").returncode != 0
        assert not (tmp_path / "here/after").exists()


def test_pieces_of_python_are_one_program(tmp_path: Path) -> None:
    source = tmp_path / "page.md"
    source.write_text(
        "```python\nvalue = 2\n```\n```bash\necho 3 > three\n```\n```text\nno code\n```\n"
        "```python\nprint(value + int(open('three').read()))\n```\n"
    )
    assert [language for language, _ in blocks(source.read_text())] == ["python", "bash", "python"]
    assert run(source, tmp_path / "here").stdout == "5\n"


def test_workflows_of_the_pages_parse() -> None:
    text = page("regression_gate").read_text()
    start = text.index("```yaml\n") + len("```yaml\n")
    workflow = yaml.safe_load(text[start : text.index("```", start)])
    steps = workflow["jobs"]["speed"]["steps"]
    assert any("cnnport bench" in step.get("run", "") for step in steps)

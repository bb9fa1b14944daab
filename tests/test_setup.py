"""The files that set the project up agree with one another."""

import csv
import importlib.metadata
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = ["3.11", "3.12", "3.13"]
MACHINES = {
    "linux": {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"},
    "macos": {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64"},
}


def requirements(*extras: str) -> dict[str, Requirement]:
    """The project's direct dependencies, core and `extras`, by canonical name."""
    lines = PROJECT["dependencies"] + [line for extra in extras for line in PROJECT["optional-dependencies"][extra]]
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


def lock_lines() -> list[str]:
    lines = (line.partition(" #")[0].strip() for line in (ROOT / "requirements.lock").read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def locked(python: str, machine: str = "linux") -> dict[str, str]:
    """Name → version of the lock, as pip reads it on one Python and machine."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "os_name": "posix",
    } | MACHINES[machine]
    pins: dict[str, str] = {}
    for requirement in map(Requirement, lock_lines()):
        if requirement.marker is None or requirement.marker.evaluate(environment):
            name = canonicalize_name(requirement.name)
            assert name not in pins, f"{name} is locked twice for Python {python} on {machine}"
            pins[name] = str(requirement.specifier).removeprefix("==")
    return pins


def environment_yml() -> tuple[list[str], list[str]]:
    """The conda and the pip lines of environment.yml."""
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    (pip,) = (entry["pip"] for entry in dependencies if isinstance(entry, dict))
    return [entry for entry in dependencies if isinstance(entry, str)], pip


def make_variable(name: str) -> str:
    return re.search(rf"^{name}\s*[?:]?=\s*(.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)[1].strip()


def git(*arguments: str) -> subprocess.CompletedProcess:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("python", PYTHONS)
def test_lock_pins_every_direct_dependency_within_its_bounds(python, machine):
    pins = locked(python, machine)
    for name, requirement in requirements(*PROJECT["optional-dependencies"]).items():
        if name != "torch":
            assert name in pins, f"{name} is in pyproject.toml but not in requirements.lock: run `make lock`"
            assert requirement.specifier.contains(pins[name]), f"{requirement} against the locked {pins[name]}"


def test_lock_is_closed_under_what_the_installed_packages_need():
    pins, todo, seen = locked("3.11"), [("rodpo-lite", "")], set()
    todo += [(name, extra) for name, r in requirements("book", "test").items() for extra in ("", *r.extras)]
    while todo:
        name, extra = item = todo.pop()
        if item in seen:
            continue
        seen.add(item)
        for line in importlib.metadata.distribution(name).requires or []:
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                needed = canonicalize_name(need.name)
                if needed == "torch" or needed.startswith(("nvidia-", "cuda-")) or needed == "triton":
                    continue
                assert needed in pins or needed in locked("3.12") or needed in locked("3.13"), f"{name} needs {need}"
                todo += [(needed, e) for e in ("", *need.extras)]
    assert len(seen) > 50  # the walk went somewhere


def test_lock_holds_plain_pins_and_no_torch():
    for line in lock_lines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[^\s;]+( ; .+)?", line), f"not a plain pin: {line}"
        assert not re.match(r"(torch|triton|nvidia-.*|cuda-.*)==", line), f"make installs torch by itself, not {line}"
    text = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"https?:|file:|--\w", text), "the lock names a host, a path or an option"
    assert "make lock" in text.splitlines()[0]


def test_licences_are_listed_of_every_locked_package():
    with open(ROOT / "LICENCES.csv", newline="", encoding="utf-8") as file:
        listed = {canonicalize_name(row["Name"]): row["Version"].partition("+")[0] for row in csv.DictReader(file)}
    assert listed == locked("3.11") | {"torch": make_variable("TORCH_VERSION")}, "run `make licences`"


def test_environment_yml_agrees_with_pyproject_and_lock():
    conda, pip = environment_yml()
    (python,) = (line.partition("=")[2] for line in conda if line.startswith("python="))
    assert SpecifierSet(PROJECT["requires-python"]).contains(python)

    options = [line for line in pip if line.startswith("-")]
    pins = {canonicalize_name(r.name): r for r in map(Requirement, (line for line in pip if line not in options))}
    assert "-c requirements.lock" in options and "-e ." in options
    wanted = requirements("book", "import")
    assert pins.keys() == wanted.keys()
    versions = locked(python) | {"torch": make_variable("TORCH_VERSION")}
    for name, pin in pins.items():
        assert str(pin.specifier) == f"=={versions[name]}"
        assert wanted[name].specifier.contains(versions[name])


def test_environment_yml_and_makefile_take_torch_from_the_same_index():
    _, pip = environment_yml()
    assert make_variable("CPU_INDEX") in pip


def test_pre_commit_hooks_have_the_locked_versions():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    pins = {r.name: r for hook in hooks for r in map(Requirement, hook.get("additional_dependencies", []))}
    assert {"ruff", "nbstripout"} <= pins.keys()
    for name in ("ruff", "nbstripout"):
        assert str(pins[name].specifier) == f"=={locked('3.11')[name]}"


def test_pre_commit_refuses_notebooks_as_ipynb():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    guards = [h for repo in config["repos"] for h in repo["hooks"] if h["language"] == "fail"]
    assert any(re.search(h["files"], "notebooks/01_data.ipynb") for h in guards)
    assert not any(re.search(h["files"], "notebooks/01_data.py") for h in guards)


def test_citation_names_the_paper_and_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    (paper,) = citation["references"]
    assert paper["url"] == "https://arxiv.org/abs/2603.29259"
    assert [i["value"] for i in paper["identifiers"]] == ["arXiv:2603.29259"]
    assert [a["family-names"] for a in paper["authors"]] == ["Huang", "Zhang", "Cai", "Wang", "Pan"]


def test_workflows_call_targets_that_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    called = set()
    for name in ("test", "book", "links"):
        workflow = yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text(encoding="utf-8"))
        assert True in workflow, f"{name}.yml has no trigger"  # YAML 1.1 reads the key `on` as true
        for job in workflow["jobs"].values():
            called |= {t for step in job["steps"] for t in re.findall(r"\bmake ([a-z]+)", step.get("run", ""))}
    called |= set(re.findall(r"^make ([a-z]+)", (ROOT / ".ci/run").read_text(), re.M))
    assert {"test", "book"} <= called <= targets


def test_workflow_tests_every_supported_python():
    matrix = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())["jobs"]["test"]["strategy"]["matrix"]
    supported = SpecifierSet(PROJECT["requires-python"])
    assert matrix["python"] == [f"3.{minor}" for minor in range(8, 30) if supported.contains(f"3.{minor}")] == PYTHONS


def test_notebooks_are_committed_as_py_only():
    tracked = git("ls-files", "notebooks").stdout.splitlines()
    assert [path for path in tracked if path.endswith(".ipynb")] == []


@pytest.mark.parametrize(
    ("path", "ignored"),
    [
        (".venv/pyvenv.cfg", True),
        ("_build/html/index.html", True),
        ("runs/toys/run.json", True),
        ("data/amazon/toys/dataset.json", True),
        ("data/synthetic/dataset.json", True),
        ("notebooks/01_data.ipynb", True),
        ("rodpo_lite/__pycache__/config.pyc", True),
        ("data/README.md", False),
        ("data/results/0123abcd.json", False),
        ("notebooks/01_data.py", False),
        ("rodpo_lite/data/synthetic.py", False),
    ],
)
def test_git_ignores_what_is_built_and_nothing_else(path, ignored):
    status = git("check-ignore", "--quiet", "--no-index", path).returncode
    assert status == (0 if ignored else 1)

"""The comparison with attribution libraries and the history of benches: truths are files, scores count right, the
models in PyTorch are the same, and what a library says is what its method defines."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import circuitsketch as cs
from circuitsketch.attribution.evaluation import rank_correlation

BENCH = Path(__file__).parent.parent / "bench"


@pytest.fixture
def bench(monkeypatch):
    """Imports a bench as its own directory sees it."""
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module


# ------------------------------------------------------------------------------------------------ the comparison


def test_a_trial_writes_truths_and_scores_what_lies_beside_them(bench, tmp_path, capsys):
    compare = bench("compare_attribution")
    trial = ["--settings", "users", "--subsets", "8", "--budgets", "20", "--no-libraries", "--folder", str(tmp_path)]
    setting = compare.SETTINGS["users"](8)
    home = tmp_path / "users"
    home.mkdir()
    effects = np.stack([cs.metagradient(setting.run, setting.functions[k]) for k in range(2)], axis=1)
    np.save(home / "effects-mine.npy", effects)
    numbers = compare.main([*trial, "--json", "-"])
    assert json.loads(capsys.readouterr().out) == numbers
    cells = {cell["method"]: cell for cell in numbers["cells"]["users"]}
    assert set(cells) == {compare.FIRST, compare.OURS, compare.DATAMODELS, compare.SKETCH, "mine"}
    for kind in setting.kinds:
        mask, margins = np.load(home / kind / "masks.npy"), np.load(home / kind / "margins.npy")
        assert mask.shape == (8, 200) and margins.shape == (8, 2)
        retrained = setting.measure(setting.run.params(setting.run.retrain(without=np.flatnonzero(mask[3]))))
        np.testing.assert_allclose(margins[3], retrained, rtol=1e-9)
        mine, first = (cells[name]["kinds"][kind] for name in ("mine", compare.FIRST))
        assert mine["lds"] == pytest.approx(first["lds"]) and mine["rmse"] == pytest.approx(first["rmse"])
        value = np.load(home / "baseline.npy") + mask @ effects
        assert mine["lds"] == pytest.approx(rank_correlation(value, margins))
        assert mine["lds_low"] <= mine["lds"] <= mine["lds_high"]
        assert 0 <= cells[compare.OURS]["kinds"][kind]["covered"] <= 1


def test_truths_are_read_where_the_masks_are_the_same(bench, tmp_path, monkeypatch):
    compare = bench("compare_attribution")
    setting = compare.SETTINGS["users"](4)
    truths = compare.read_or_retrain(setting, tmp_path)
    monkeypatch.setattr(compare, "retrain_and_measure", lambda *_: pytest.fail("the truths are there"))
    again = compare.read_or_retrain(setting, tmp_path)
    assert all(np.array_equal(truths[kind][1], again[kind][1]) for kind in truths)


def test_a_cell_is_lost_to_what_costs_no_more_and_is_better(bench):
    compare = bench("compare_attribution")
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(compare.KNOWN + 40, 2))
    asked = truth[compare.KNOWN :]
    answers = {"close": asked + 0.1 * rng.normal(size=asked.shape), "far": asked + rng.normal(size=asked.shape)}

    def cell(method, answer, trainings):
        scores = compare.score(answers[answer], asked, True)
        return compare.make_cell(method, (1.0, trainings, 1.0), {"some": scores}, 10.0)

    ours, truths = cell(compare.OURS, "far", 10.0), {"some": (np.zeros(0), truth)}
    rows, count = compare.list_losses("run", [ours, cell("rival", "close", 11.0)], truths)
    assert count == 2 and [row[3] for row in rows] == ["LDS", "RMSE"] and all(row[-1] == "yes" for row in rows)
    assert compare.list_losses("run", [ours, cell("dear", "close", 13.0)], truths) == ([], 2)
    assert compare.list_losses("run", [ours, cell("equal", "far", 1.0)], truths) == ([], 2)


def test_a_call_apart_returns_its_result_its_memory_or_its_error(bench):
    apart = bench("peers.apart")
    found = apart.run_apart(lambda: float(np.ones(10_000_000).sum()))
    assert found.result == 1e7 and 60 < found.megabytes < 200 and not found.error
    assert apart.run_apart(lambda: [][0]).error == "IndexError: list index out of range"


@pytest.mark.parametrize("name", ["users", "fairness gap", "digits", "logistic"])
def test_the_model_in_pytorch_is_the_same_after_training(bench, name):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    setting = bench("peers.settings").SETTINGS[name](1)
    assert bench("peers.twins").Twin.of(setting).check() < 1e-10


def test_the_gpt_in_pytorch_has_the_same_losses(bench):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    setting = bench("peers.settings").SETTINGS["names"](1)
    twin = bench("peers.twins").Twin.of(setting)
    with torch.no_grad():
        values = [float(twin.measure(k)) for k in range(setting.values)]
    np.testing.assert_allclose(values, setting.measure(setting.run.state["params"]), rtol=1e-12)


def load_method(bench, name, setting_name):
    """A method of a library that is installed, on a trained model in double precision."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    method = next(one for one in bench("peers.libraries").METHODS if one.label == name)
    pytest.importorskip({"traker": "trak", "pyDVL": "pydvl"}.get(method.library, method.library))
    setting = bench("peers.settings").SETTINGS[setting_name](1)
    twin = bench("peers.twins").Twin.of(setting)
    twin.model.load_state_dict(twin.trained()[0])
    return torch, method, twin


@pytest.mark.parametrize("name", ["users", "digits"])
def test_magic_of_bergson_is_the_metagradient(bench, name):
    _, method, twin = load_method(bench, "bergson: MAGIC", name)
    mine = np.reshape(cs.metagradient(twin.setting.run, twin.setting.functions[0]), (-1, 1))
    np.testing.assert_allclose(method.run(twin, [0], None), mine, atol=1e-10 * np.abs(mine).max())


@pytest.mark.parametrize("name", ["pyDVL: influence functions, direct", "captum: influence functions, Arnoldi"])
def test_influence_functions_are_those_of_the_dense_hessian(bench, name):
    torch, method, twin = load_method(bench, name, "logistic")
    damping = 1e-2
    x, y = twin.data
    layer = twin.model.layers[0]

    def losses(weight, bias):
        return twin.losses(x @ weight.T + bias, y)

    params = tuple(part.detach() for part in (layer.weight, layer.bias))
    jacobian = torch.cat([part.flatten(1) for part in torch.func.jacrev(losses, argnums=(0, 1))(*params)], dim=1)
    blocks = torch.func.hessian(lambda *parts: losses(*parts).sum(), argnums=(0, 1))(*params)
    sizes = [part.numel() for part in params]
    hessian = torch.cat([torch.cat([b.reshape(sizes[i], -1) for b in row], 1) for i, row in enumerate(blocks)])
    gradient = torch.cat([part.flatten() for part in torch.autograd.grad(twin.measure(0), list(layer.parameters()))])
    if method.library == "pyDVL":
        damped = hessian + len(x) * damping * torch.eye(len(hessian), dtype=hessian.dtype)
        exact = (jacobian @ torch.linalg.solve(damped, gradient)).numpy()
        found = method.run(twin, [0], damping)[:, 0]
        np.testing.assert_allclose(found, exact, atol=1e-6 * np.abs(exact).max())
    else:  # the largest 50 eigenvalues
        values, vectors = torch.linalg.eigh(hessian)
        top = vectors[:, -50:]
        exact = (jacobian @ (top @ ((top.T @ gradient) / values[-50:]))).numpy()
        found = method.run(twin, [0], None)[:, 0]
        assert np.corrcoef(found, exact)[0, 1] > 0.95 and 0.9 < (found @ exact) / (exact @ exact) < 1.1


# ------------------------------------------------------------------------------------------------ the history


@pytest.fixture
def history(bench, tmp_path, monkeypatch):
    """The history of benches, in a folder of its own, and a README.md with one section."""
    monkeypatch.setattr(bench("history"), "FOLDER", tmp_path / "history")
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- trial -->\nold\n<!-- end of trial -->\nafter\n")
    monkeypatch.setattr(bench("report"), "README", readme)
    return bench("history")


def write_trial(report, value):
    options = argparse.Namespace(json=None, write=True)
    trial = report.Report("trial", options, {"steps": 3})
    trial.add(report.Row("the time", "time", value))
    trial.add(report.Row("a share", "first_share", 0.5))
    trial.add(report.Row("a share", "second_share", 0.25))
    trial.numbers |= {"count": 7, "nested": {"x": 1}}
    trial.finish()


def test_a_written_report_appends_a_line_and_its_table_is_the_last(bench, history, capsys):
    report = bench("report")
    write_trial(report, 2.0)
    write_trial(report, 3.0)
    lines = history.read_lines("trial")
    named = {"a share (first_share)": 0.5, "a share (second_share)": 0.25, "count": 7}
    assert [line["figures"] for line in lines] == [{"the time": 2.0} | named, {"the time": 3.0} | named]
    assert all(line["settings"] == {"steps": 3} for line in lines)
    assert lines[1]["table"] in report.README.read_text() and lines[0]["table"] not in report.README.read_text()

    report.README.write_text("before\n<!-- trial -->\n<!-- end of trial -->\nafter\n")
    capsys.readouterr()
    report.main(["--tables", "--history"])
    assert lines[1]["table"] in report.README.read_text()
    row = next(line for line in capsys.readouterr().out.splitlines() if "the time" in line)
    assert [cell.strip() for cell in row.strip("|").split("|")] == ["the time", "2", "3"]


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_line_has_the_commit_a_plus_where_files_differ_and_nothing_outside_of_a_repository(
    history, tmp_path, monkeypatch
):
    home = tmp_path / "repository"
    (home / "bench").mkdir(parents=True)
    monkeypatch.setattr(history, "__file__", str(home / "bench" / "history.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("GIT_") and name != "GIT_CEILING_DIRECTORIES"]:
        monkeypatch.delenv(name)

    def git(*words):
        who = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false")
        return subprocess.run(["git", *who, *words], cwd=home, check=True, capture_output=True, text=True).stdout

    history.append_line("trial", {})
    git("init", "--quiet")
    history.append_line("trial", {})  # a repository without a commit
    file = home / "measured.py"
    file.write_text("1\n")
    git("add", "measured.py")
    git("commit", "--quiet", "--no-verify", "-m", "Begin")
    (home / "untracked").touch()
    history.append_line("trial", {})
    file.write_text("2\n")
    history.append_line("trial", {})
    monkeypatch.setenv("PATH", str(home))  # where there is no git
    history.append_line("trial", {})
    monkeypatch.undo()
    head = git("rev-parse", "--short", "HEAD").strip()
    lines = (tmp_path / "history" / "trial.jsonl").read_text().splitlines()
    assert len(head) >= 7 and [json.loads(line)["commit"] for line in lines] == ["", "", head, f"{head}+", ""]


def test_the_history_is_plotted(bench, history, tmp_path):
    report = bench("report")
    write_trial(report, 2.0)
    report.main(["--history", "trial", "--plot", str(tmp_path / "trial.png")])
    assert (tmp_path / "trial.png").read_bytes().startswith(b"\x89PNG")


def test_every_line_of_the_history_has_what_tables_and_plots_need(bench):
    history = bench("history")
    assert history.list_names()
    for name in history.list_names():
        for line in history.read_lines(name):
            assert {"commit", "machine", "settings", "figures", "table"} <= set(line)
            assert {"date", "processor"} <= set(line["machine"])
            assert all(isinstance(value, int | float) for value in line["figures"].values())


def test_first_order_breaks_as_batches_shrink(bench):
    test = bench("first_order")
    words = test.microgpt.names()[:64]
    run = test.train_on(words, 16)
    batch = [part[:16] for part in test.cut_words(words)]
    short = [i for i in range(16) if len(words[i]) < test.LENGTH]
    losses = np.asarray(test.compute_losses(run.state["params"], *batch))
    whole = {**run.state["params"], "wpe": np.pad(run.state["params"]["wpe"], ((0, 8), (0, 0)))}
    one_by_one = [float(test.microgpt.loss(whole, words[i])) for i in short]
    np.testing.assert_allclose(losses[short], one_by_one, rtol=1e-12)
    row = np.zeros((1, run.n))
    row[0, 5] = 1e-3
    orders = test.expand(run, row, test.measure_first)
    exact = float(test.measure_first(run.params(run.train_with(row[0]))))
    base = float(test.measure_first(run.params(run.train())))
    errors = [abs(float(value[0]) - exact) / abs(exact - base) for value in orders]
    assert errors[0] < 0.1 and errors[1] < errors[0] and errors[2] < 1e-4

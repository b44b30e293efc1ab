"""Laws of the training loop, the progress bar, averaged weights, and files of trained weights."""

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from itertools import repeat
from pathlib import Path

import nbformat
import pytest
import torch
from torch import nn

from course_utils import training


class Slope(nn.Module):
    """One weight w with loss (w - target)^2 / 2, so that gradient descent has a closed form."""

    def __init__(self, w=5.0):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w, dtype=torch.float64))

    def loss(self, target):
        error = self.w - target
        return {"loss": error**2 / 2, "error": error}


def descend(model, n_steps, lr=0.1, target=1.0, **options):
    optimizer = torch.optim.SGD(model.parameters(), lr)
    return training.steps(model.loss, optimizer, repeat(torch.tensor(target)), n_steps, **options)


# ---------------------------------------------------------------------------------------------------- the loop


def test_steps_are_gradient_descent_and_are_seen_after_the_update():
    model = Slope(5.0)
    for record in descend(model, 20):
        before, after = 1 + 4 * 0.9 ** (record.step - 1), 1 + 4 * 0.9**record.step
        assert model.w.item() == pytest.approx(after, abs=1e-12)
        assert float(record.loss) == pytest.approx((before - 1) ** 2 / 2, abs=1e-12)
        assert float(record.terms["error"]) == pytest.approx(before - 1, abs=1e-12)
        assert not record.loss.requires_grad  # else every step's graph stays in memory
    assert record.step == 20


def test_clipping_and_schedule_follow_their_formulas():
    model = Slope(5.0)
    list(descend(model, 3, clip_norm=0.5))  # the gradient is above 0.5 throughout
    assert model.w.item() == pytest.approx(5 - 3 * 0.1 * 0.5, abs=1e-5)
    model = Slope(5.0)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    halving = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    list(training.steps(model.loss, optimizer, repeat(torch.tensor(1.0)), 3, scheduler=halving))
    assert model.w.item() == pytest.approx(1 + 4 * 0.9 * 0.95 * 0.975, abs=1e-12)


def test_takes_no_more_batches_than_steps_and_says_when_they_run_out():
    model, batches = Slope(), iter([torch.tensor(1.0)] * 5)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    list(training.steps(model.loss, optimizer, batches, 3))
    assert len(list(batches)) == 2
    with pytest.raises(ValueError, match="after 2 of 3 steps"):
        list(training.steps(model.loss, optimizer, [torch.tensor(1.0)] * 2, 3))


@pytest.mark.parametrize("wrong, message", [
    (lambda w: {"nll": w}, r"\['nll'\] without a \"loss\""),
    (lambda w: {"loss": w.expand(3)}, r"scalar tensor, got shape \(3,\)"),
    (lambda w: {"loss": w, "kl": 0.5}, r'"kl" must be a scalar tensor, got float'),
    (lambda w: w.item(), "scalar tensor, got float"),
    (lambda w: w.detach(), "no parameter that wants a gradient"),
])
def test_a_wrong_objective_is_named(wrong, message):
    model = Slope()
    with pytest.raises(ValueError, match=message):
        list(training.steps(lambda _: wrong(model.w), torch.optim.SGD(model.parameters(), 0.1), repeat(0), 1))


def test_a_loss_that_is_not_finite_stops_before_it_spoils_the_weights():
    model = Slope(5.0)
    targets = [torch.tensor(t) for t in (1.0, 1.0, float("nan"), 1.0)]
    with pytest.raises(FloatingPointError, match="nan at step 3"):
        list(training.steps(model.loss, torch.optim.SGD(model.parameters(), 0.1), targets, 4))
    assert model.w.item() == pytest.approx(1 + 4 * 0.9**2, abs=1e-12)


@pytest.mark.parametrize("clip_norm", [None, 1.0])
@pytest.mark.parametrize("spoilt", [
    lambda w: (w * 0).sqrt(),                                        # the slope of a square root at 0, times 0
    lambda w: torch.where(w > 0, w, (w - w.detach()).log()),         # the slope of the branch not taken, times 0
])
def test_a_gradient_that_is_not_finite_stops_before_it_spoils_the_weights(spoilt, clip_norm):
    model = Slope(5.0)
    sound = [torch.tensor(1.0)] * 2

    def objective(target):
        terms = model.loss(target.abs())
        return {**terms, "loss": terms["loss"] + spoilt(model.w).sum() if target < 0 else terms["loss"]}

    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(FloatingPointError, match=r"is \d.* at step 3, but its gradient is not finite for 1 of 1"):
        list(training.steps(objective, optimizer, [*sound, -sound[0], *sound], 5, clip_norm=clip_norm))
    before = Slope(5.0)
    list(training.steps(before.loss, torch.optim.SGD(before.parameters(), 0.1), sound, 2, clip_norm=clip_norm))
    assert model.w.item() == before.w.item()


def test_a_large_gradient_whose_norm_overflows_is_still_a_gradient():
    weight = nn.Parameter(torch.ones(4))
    list(training.steps(lambda _: (weight * 1e25).sum(), torch.optim.SGD([weight], 1e-25), repeat(0), 1))
    assert torch.allclose(weight, torch.zeros(4), atol=1e-6)


def test_fit_returns_the_curves_of_steps():
    model, seen = Slope(5.0), []
    history = training.fit(model.loss, torch.optim.SGD(model.parameters(), 0.1), repeat(torch.tensor(1.0)), 20,
                           callback=lambda record: seen.append(record.step))
    expected = torch.tensor([float(record.loss) for record in descend(Slope(5.0), 20)])
    assert torch.equal(history["loss"], expected)
    assert {name: (curve.shape, curve.dtype) for name, curve in history.items()} == {
        "loss": ((20,), torch.float32), "error": ((20,), torch.float32)}
    assert seen == list(range(1, 21))
    assert history.stopped_at is None


@pytest.mark.parametrize("stop", [lambda: signal.raise_signal(signal.SIGINT)])
def test_ctrl_c_keeps_what_was_learned_and_restores_the_modes(stop, capsys):
    network = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.Linear(2, 1))
    network[1].eval()  # a mode set by hand is a mode too
    modes, calls = [module.training for module in network.modules()], []

    def objective(batch):
        calls.append(1)
        if len(calls) == 5:
            with training.evaluating(network):  # the worst moment
                stop()
        return network(batch).square().mean()

    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    history = training.fit(objective, optimizer, repeat(torch.ones(4, 2)), 9, description="stopping")
    assert history.stopped_at == 4
    assert history["loss"].shape == (4,)
    assert [module.training for module in network.modules()] == modes
    assert "stopping" in (words := capsys.readouterr().err) and "4/9" in words and "stopped by you" in words
    assert training.fit(objective, optimizer, repeat(torch.ones(4, 2)), 9).stopped_at is None  # and it goes on


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc: run this on Linux")
def test_long_training_does_not_eat_memory():
    """Numbers kept from each step must not hold the memory of its batch: 1500 batches of 0.4 MB passed through here."""
    code = """
import itertools, torch
from course_utils import training
resident = lambda: int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6
model = torch.nn.Sequential(torch.nn.Linear(784, 32), torch.nn.ReLU(), torch.nn.Linear(32, 784))
def objective(x):
    error = (model(x) - x).square().mean()
    return {"loss": error, "error": error}
def train(n_steps):
    batches = (torch.rand(128, 784) for _ in itertools.count())
    training.fit(objective, torch.optim.Adam(model.parameters()), batches, n_steps)
    return resident()
print(-train(50) + train(1500))
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert float(told.stdout) < 150, "megabytes more after 1500 steps than after 50"


def test_evaluating_restores_every_mode_also_after_an_error():
    a, b = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2)), nn.Dropout().eval()
    a[1].eval()
    with pytest.raises(RuntimeError), training.evaluating(a, b):
        assert not any(module.training for module in [*a.modules(), *b.modules()])
        assert not torch.is_grad_enabled()
        raise RuntimeError
    assert [module.training for module in [*a.modules(), *b.modules()]] == [True, True, False, False]
    assert torch.is_grad_enabled()


def test_ema_is_the_running_average():
    model, decay = Slope(5.0), 0.9
    average = training.ema_of(model, decay)
    path = []
    training.fit(model.loss, torch.optim.SGD(model.parameters(), 0.1), repeat(torch.tensor(1.0)), 30, ema=average,
                 callback=lambda record: path.append(model.w.item()))
    weights = [decay ** (len(path) - 1)] + [(1 - decay) * decay ** (len(path) - k) for k in range(2, len(path) + 1)]
    assert sum(weights) == pytest.approx(1)
    assert average.module.w.item() == pytest.approx(sum(a * w for a, w in zip(weights, path, strict=True)), abs=1e-9)
    assert [name for name, _ in average.named_parameters()] == ["module.w"]  # it does not own the one it follows


def test_half_life_and_buffers_of_an_average():
    model = nn.BatchNorm1d(1, momentum=1.0, affine=True).double()
    average, newest = training.ema_of(model, half_life=2.0, buffers=True), training.ema_of(model, half_life=2.0)
    for value in (0.0, 4.0, 4.0):
        with torch.no_grad():
            model.weight.fill_(value)
            model.running_mean.fill_(value)
        average.update()
        newest.update()
    expected = 0.5 * 0.0 + 0.5 * 4.0  # two updates later the first counts half
    for value in (average.module.weight, average.module.running_mean, newest.module.weight):
        assert value.item() == pytest.approx(expected, abs=1e-12)
    assert newest.module.running_mean.item() == 4.0
    with pytest.raises(ValueError, match="not both"):
        training.ema_of(model, 0.9, half_life=3)
    with pytest.raises(ValueError, match="above 0"):
        training.ema_of(model, half_life=0)


# ------------------------------------------------------------------------------------------------ weights in files


def network():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_weights_survive_a_file(tmp_path):
    model, twin, path = network(), network(), tmp_path / "deep" / "weights.safetensors"
    metadata = {"command": "course train", "seed": 3, "nll": 1.5, "versions": ["2.6"]}
    training.save_weights(path, model, metadata)
    assert training.load_weights(path, twin) == metadata
    for name, value in model.state_dict().items():
        assert torch.equal(value, twin.state_dict()[name])
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # no half-written neighbours


def test_half_precision_halves_the_file_and_refuses_what_does_not_fit(tmp_path):
    model = nn.Linear(200, 200)
    twin = nn.Linear(200, 200)
    training.save_weights(tmp_path / "full", model, {})
    training.save_weights(tmp_path / "half", model, {}, dtype=torch.float16)
    assert (tmp_path / "half").stat().st_size < 0.51 * (tmp_path / "full").stat().st_size
    training.load_weights(tmp_path / "half", twin)
    assert twin.weight.dtype == torch.float32
    torch.testing.assert_close(twin.weight, model.weight, rtol=1e-3, atol=1e-6)
    nn.init.constant_(model.bias, 1e5)
    with pytest.raises(ValueError, match="bias does not fit into torch.float16"):
        training.save_weights(tmp_path / "half", model, {}, dtype=torch.float16)


def test_weights_of_another_model_are_named(tmp_path):
    path = tmp_path / "weights"
    training.save_weights(path, network(), {})
    other = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5))
    with pytest.raises(ValueError) as error:
        training.load_weights(path, other)
    assert "0.weight has shape (4, 3), the model wants (5, 3)" in str(error.value)
    assert "2.weight is not in the model" in str(error.value) or "more" in str(error.value)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="is damaged"):
        training.load_weights(path, network())
    with pytest.raises(FileNotFoundError, match="no file of weights"):
        training.load_weights(tmp_path / "elsewhere", network())


def test_shared_weights_survive_a_file(tmp_path):
    model, twin = network(), network()
    model[2], twin[2] = nn.Linear(4, 4), nn.Linear(4, 4)
    model.append(model[2])
    twin.append(twin[2])
    training.save_weights(tmp_path / "tied", model, {})
    training.load_weights(tmp_path / "tied", twin)
    assert torch.equal(twin[3].weight, model[2].weight) and twin[3] is twin[2]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "weights"
    training.save_weights(path, network(), {"version": 1})

    def no_space(handle):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(OSError, match="no space"):
        training.save_weights(path, network(), {"version": 2})
    assert training.load_weights(path, network()) == {"version": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["weights"]


def test_a_reader_never_sees_half_a_file(tmp_path):
    path, stop, trouble = tmp_path / "weights", threading.Event(), []
    model = nn.Linear(300, 300)
    training.save_weights(path, model, {})

    def write():
        while not stop.is_set():
            training.save_weights(path, model, {})

    def read():
        try:
            while not stop.is_set():
                training.read_tensors(path)
        except Exception as error:
            trouble.append(error)

    threads = [threading.Thread(target=work) for work in (write, write, read, read)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    stop.set()
    for thread in threads:
        thread.join()
    assert not trouble
    assert [file.name for file in tmp_path.iterdir()] == ["weights"]


# ------------------------------------------------------------------------------------------------ cached training


class Lesson:
    """A small training as a notebook would write it: everything drawn from the global random state."""

    def __init__(self, folder, n_steps=30, lr=0.1, noise=1.0, seed=0, interrupt_at=None):
        self.trained = 0
        self.data = torch.linspace(-1, 1, 30).reshape(10, 3)
        torch.manual_seed(seed)
        self.model = network()

        def batches():
            while True:
                yield self.data + noise * torch.randn(10, 3)

        def train():
            optimizer = torch.optim.Adam(self.model.parameters(), lr)
            return training.fit(self.loss, optimizer, batches(), n_steps)

        self.interrupt_at = interrupt_at
        self.history = training.cached("lesson", self.model, train, folder=folder, seed=seed, n_steps=n_steps)
        self.model.eval()
        self.next_number = torch.rand(())

    def loss(self, x):
        self.trained += 1
        if self.trained == self.interrupt_at:
            raise KeyboardInterrupt
        return {"loss": self.model(x).square().mean(), "mean": self.model(x).mean()}


def same(a, b):
    assert list(a.history) == list(b.history)
    for name in a.history:
        assert torch.equal(a.history[name], b.history[name])
    for name, value in a.model.state_dict().items():
        assert torch.equal(value, b.model.state_dict()[name])
    assert a.next_number == b.next_number


def test_cold_and_warm_runs_agree(tmp_path, capsys):
    cold = Lesson(tmp_path)
    warm = Lesson(tmp_path)
    assert (cold.trained, warm.trained) == (30, 0)
    same(cold, warm)
    assert "trained before" in capsys.readouterr().out


@pytest.mark.parametrize("change", [{"seed": 1}, {"n_steps": 31}, {"lr": 0.2}, {"noise": 0.5}])
def test_whatever_changes_the_result_trains_again(tmp_path, change):
    Lesson(tmp_path)
    assert Lesson(tmp_path, **change).trained > 0


@pytest.mark.parametrize("damage", [
    lambda content: content[:-5],
    lambda content: content[:100],
    lambda content: b"",
    lambda content: content[:-20] + bytes([content[-20] ^ 1]) + content[-19:],  # one bit, where only a checksum sees it
    lambda content: content.replace(rb'[\"loss\"', rb'[\"lozs\"'),  # in the header
])
def test_a_damaged_cache_is_noticed_and_trained_again(tmp_path, capsys, damage):
    cold = Lesson(tmp_path)
    (path,) = tmp_path.iterdir()
    assert damage(path.read_bytes()) != path.read_bytes()
    path.write_bytes(damage(path.read_bytes()))
    again = Lesson(tmp_path)
    assert again.trained == 30
    assert "training again" in capsys.readouterr().out
    same(cold, again)
    assert Lesson(tmp_path).trained == 0  # and mended


def test_an_interrupted_training_is_not_remembered(tmp_path):
    stopped = Lesson(tmp_path, interrupt_at=7)
    assert stopped.history.stopped_at == 6
    assert not list(tmp_path.iterdir())
    assert Lesson(tmp_path).trained == 30


def test_a_folder_that_cannot_be_written_costs_only_the_cache(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    lesson = Lesson(tmp_path / "file")
    assert lesson.trained == 30
    assert "not stored" in capsys.readouterr().out


def test_modes_after_training_are_part_of_the_result(tmp_path):
    def run():
        torch.manual_seed(0)
        model = network()

        def train():
            history = training.fit(lambda x: model(x).mean(), torch.optim.SGD(model.parameters(), 0.1),
                                   repeat(torch.ones(4, 3)), 2)
            model[1].eval()
            return history

        training.cached("modes", model, train, folder=tmp_path)
        return [module.training for module in model.modules()]

    assert run() == run() == [True, True, False, True]


def test_the_cache_names_files_after_the_training_and_keeps_the_newest_four(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "here"))
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "VAE-2-more-0123456789abcdef.safetensors").write_text("of another training")
    model = network()
    for n_steps in range(1, 7):
        def train(n_steps=n_steps):
            return training.fit(lambda x: model(x).mean(), torch.optim.SGD(model.parameters(), 0.1),
                                repeat(torch.ones(4, 3)), n_steps)

        training.cached("VAE: σ² = D/2", model, train)
        os.utime(max((tmp_path / "here").glob("VAE-D-2-*"), key=os.path.getctime), (n_steps, n_steps))
    kept = sorted(file.stat().st_mtime for file in (tmp_path / "here").glob("VAE-D-2-*.safetensors"))
    assert kept == [3, 4, 5, 6]
    assert len(list((tmp_path / "here").iterdir())) == 5


def test_cached_wants_the_history_of_fit(tmp_path):
    with pytest.raises(ValueError, match="the History that fit"):
        training.cached("wrong", network(), lambda: {"loss": torch.zeros(3)}, folder=tmp_path)


KILLED = """
import sys, torch
from course_utils import training
model = torch.nn.Linear(3, 1)
def shout(record):
    if record.step == 50:
        print("half way", flush=True)
        sys.stdin.read()  # until the test ends this process
def train():
    batches = (torch.randn(8, 3) for _ in range(100))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    return training.fit(lambda x: model(x).square().mean(), optimizer, batches, 100, callback=shout)
training.cached("killed", model, train, folder=sys.argv[1])
"""


def test_a_process_killed_in_the_middle_leaves_nothing_behind(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdin=subprocess.PIPE, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    with process:
        assert process.stdout.readline() == "half way\n"
        process.kill()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cold_and_warm_runs_agree_on_a_gpu(tmp_path):
    def run():
        torch.manual_seed(0)
        model, calls = network().cuda(), []

        def loss(x):
            calls.append(1)
            return model(x + torch.randn_like(x)).square().mean()

        def train():
            return training.fit(loss, torch.optim.SGD(model.parameters(), 0.1), repeat(torch.ones(4, 3).cuda()), 5)

        history = training.cached("gpu", model, train, folder=tmp_path)
        return len(calls), history["loss"].tolist(), torch.rand((), device="cuda").item(), torch.rand(()).item()

    cold, warm = run(), run()
    assert (cold[0], warm[0]) == (5, 0)
    assert cold[1:] == warm[1:]


# ------------------------------------------------------------------------------------------------ the progress bar


def test_progress_gives_every_item_and_ends_with_one_line(capsys):
    assert list(training.progress(range(5), description="sampling")) == list(range(5))
    last = capsys.readouterr().err.split("\r")[-1]
    assert "sampling" in last and "5/5" in last
    assert list(training.progress((x for x in "ab"), description="unknown length")) == ["a", "b"]
    assert "2it" in capsys.readouterr().err
    for item in training.progress(range(5), description="left"):
        if item == 2:
            break
    last = capsys.readouterr().err.split("\r")[-1]
    assert "2/5" in last and "left early" in last


CELLS = {
    "setup": """
import signal, time, torch
from course_utils import training
model = torch.nn.Linear(2, 1)
def loss(x):
    return model(x).square().mean()
def batches():
    while True:
        yield torch.randn(8, 2)
""",
    "fit": """
optimizer = torch.optim.SGD(model.parameters(), 0.1)
history = training.fit(loss, optimizer, batches(), 60, description="<b>slow</b>", callback=lambda r: time.sleep(0.01))
""",
    "interrupted": """
def stop(record):
    if record.step == 7:
        signal.raise_signal(signal.SIGINT)
history = training.fit(loss, optimizer, batches(), 60, callback=stop)
""",
    "interrupted too": "print(history.stopped_at, len(history['loss']))",
    "progress": "for i in training.progress(range(20), description='chains'): time.sleep(0.02)",
    "cold": """
torch.manual_seed(0)
model = torch.nn.Linear(2, 1)
def train():
    return training.fit(loss, torch.optim.SGD(model.parameters(), 0.1), batches(), 20)
training.cached("cell", model, train, folder=folder)
print(torch.rand(()).item(), model.weight.sum().item())
""",
    "warm": "",
    "changed": "",
}
CELLS["warm"] = "# run again\n" + CELLS["cold"]
CELLS["changed"] = """
def loss(x):
    return 2 * model(x).square().mean()
""" + CELLS["cold"]


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The cells above, run by papermill in a real kernel, saved, and read back from the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import papermill

        folder = tmp_path_factory.mktemp("kernel")
        notebook = nbformat.v4.new_notebook()
        notebook.cells = [nbformat.v4.new_code_cell(f"folder = {str(folder / 'cache')!r}", id="start")]
        notebook.cells += [nbformat.v4.new_code_cell(source, id=name.replace(" ", "-"))
                           for name, source in CELLS.items()]
        nbformat.write(notebook, folder / "in.ipynb")
        papermill.execute_notebook(folder / "in.ipynb", folder / "out.ipynb", kernel_name="python3", progress_bar=False)
    return nbformat.read(folder / "out.ipynb", as_version=4)


def outputs(notebook, name):
    (cell,) = [cell for cell in notebook.cells if cell.id == name.replace(" ", "-")]
    return cell.outputs


def test_the_bar_is_one_output_that_survives_saving(executed):
    (bar,) = outputs(executed, "fit")
    assert bar.output_type == "display_data"
    markup, text = bar.data["text/html"], bar.data["text/plain"]
    assert 'value="60" max="60"' in markup
    assert "60 of 60" in text and "loss" in text and text.endswith(" s")
    assert "<b>" not in markup and "&lt;b&gt;slow" in markup
    (bar,) = outputs(executed, "progress")
    assert "chains: 20 of 20" in bar.data["text/plain"]


def test_an_interrupted_cell_says_at_which_step_and_goes_on(executed):
    (bar,) = outputs(executed, "interrupted")
    assert "7 of 60" in bar.data["text/plain"] and "stopped by you" in bar.data["text/plain"]
    assert outputs(executed, "interrupted too")[0].text == "7 7\n"


def test_a_cell_is_trained_once_until_its_code_changes(executed):
    def kinds_and_words(name):
        found = outputs(executed, name)
        return [one.output_type for one in found], "".join(one.get("text", "") for one in found).splitlines()[-1]

    (cold, cold_words), (warm, warm_words) = kinds_and_words("cold"), kinds_and_words("warm")
    assert cold == ["display_data", "stream"] and warm == ["stream"]
    assert cold_words == warm_words
    changed, changed_words = kinds_and_words("changed")
    assert changed == ["display_data", "stream"] and changed_words != cold_words

"""A long sketch is written to disk block by block: interrupt it at any time, and the same call resumes it."""

import tempfile
from pathlib import Path

import numpy as np

import circuitsketch as cs
from circuitsketch.zoo import mlp


def main(directions=256, count=200):
    """Interrupt a sketch half-way, resume it, and compare it bit for bit with an uninterrupted one."""
    data = mlp.data(count)
    run = mlp.training(data.x, data.y, epochs=12)

    def interrupt_half_way(done, blocks):
        if done >= blocks // 2:
            raise KeyboardInterrupt  # what Ctrl-C raises; a killed process or a power failure is handled, too

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits.sketch"
        try:
            cs.sketch(run, directions, path=path, progress=interrupt_half_way)
        except KeyboardInterrupt:
            print("interrupted half-way")
        try:
            cs.open_sketch(path)
        except cs.CircuitSketchError as reason:
            print("incomplete:", str(reason).replace(folder, "..."))

        pushed = []
        sketch = cs.sketch(run, directions, path=path, progress=lambda done, blocks: pushed.append((done, blocks)))
        print("the same call resumed and completed {:.0f} of {} blocks".format(*pushed[-1]))

        uninterrupted = cs.sketch(run, directions)
        same = all(np.array_equal(sketch.state["params"][name], p) for name, p in uninterrupted.state["params"].items())
        print("bit for bit equal to an uninterrupted sketch:", same)

        # In another process: queries need neither the run nor its data.
        query = cs.open_sketch(path).measure(mlp.held_out_margin)
        prediction = query.without(range(5))
    truth = mlp.held_out_margin(run.params(run.retrain(without=range(5))))
    print(f"\nmean margin as trained {query.baseline:.3f}")
    print(f"without the first five digits: {prediction.value:.3f} +- {prediction.stderr:.3f}, retrained {truth:.3f}")
    return pushed, same, prediction, truth


if __name__ == "__main__":
    main()

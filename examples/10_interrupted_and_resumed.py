"""A long sketch is written to disk block by block: stop it when you like, and the same call goes on from there."""

import tempfile
from pathlib import Path

import numpy as np

import circuitsketch as cs
from circuitsketch.zoo import mlp


def main(directions=256, count=200):
    """Stop a sketch half-way, go on with it, and find the same bits as in one that was never stopped."""
    data = mlp.data(count)
    run = mlp.training(data.x, data.y, epochs=12)

    def stop_half_way(done, blocks):
        if done >= blocks // 2:
            raise KeyboardInterrupt  # what Ctrl-C does; a killed process or a power cut would do as well

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits.sketch"
        try:
            cs.sketch(run, directions, path=path, progress=stop_half_way)
        except KeyboardInterrupt:
            print("stopped half-way")
        try:
            cs.open_sketch(path)
        except cs.CircuitSketchError as reason:
            print("not yet to be opened:", str(reason).replace(folder, "..."))

        pushed = []
        sketch = cs.sketch(run, directions, path=path, progress=lambda done, blocks: pushed.append((done, blocks)))
        print("the same call again went on from there to {:.0f} of {} blocks".format(*pushed[-1]))

        whole = cs.sketch(run, directions)
        same = all(np.array_equal(sketch.state["params"][name], p) for name, p in whole.state["params"].items())
        print("the same bits as in one go:", same)

        # Another day, another process: neither the run nor its data are needed to ask.
        query = cs.open_sketch(path).measure(mlp.held_out_margin)
        prediction = query.without(range(5))
    truth = mlp.held_out_margin(run.params(run.retrain(without=range(5))))
    print(f"\nmean margin as trained {query.baseline:.3f}")
    print(f"without the first five digits: {prediction.value:.3f} +- {prediction.stderr:.3f}, retrained {truth:.3f}")
    return pushed, same, prediction, truth


if __name__ == "__main__":
    main()

"""A function becomes a circuit: trace it, print it, measure it, walk its graph."""

import networkx as nx
import numpy as np

import circuitsketch as cs


def loss(params, x, y):
    """Compute the cross-entropy of a layer of four tanh units, in plain NumPy."""
    hidden = np.tanh(x @ params["w1"] + params["b1"])
    return cs.cross_entropy(hidden @ params["w2"], y).mean()


def main():
    """Print the circuit of `loss` for three examples of two numbers each."""
    params = {"w1": np.zeros((2, 4)), "b1": np.zeros(4), "w2": np.zeros((4, 3))}
    circuit = cs.trace(loss, params, np.zeros((3, 2)), np.zeros(3, dtype=int))
    print(circuit)

    # Every array gate is a bundle of scalar gates; size counts the scalar ones.
    print(f"\n{len(circuit.nodes)} array gates, size {circuit.size}, depth {circuit.depth}")

    # The circuit is a networkx graph: here, all gates that depend on the first weights.
    w1 = circuit.inputs[circuit.input_names.index("args.0.w1")]
    dependent = nx.descendants(circuit.graph, w1)
    print("w1 reaches:", ", ".join(sorted({circuit.graph.nodes[wire]["gate"] for wire in dependent})))
    return circuit


if __name__ == "__main__":
    main()

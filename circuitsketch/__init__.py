"""circuitsketch: what would a trained model say if some of its training data had never been there?"""

from circuitsketch import optim
from circuitsketch.functions import cross_entropy, erf, gelu, log_softmax, relu, rsqrt, sigmoid, silu, softmax
from circuitsketch.functions import softplus, stop_gradient
from circuitsketch.passes import grad, jvp, value_and_grad
from circuitsketch.trace import trace

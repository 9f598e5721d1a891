"""Five small models to learn from: plain `nn.Module`s, one file each, shapes in comments.

Every file ends with the two functions that make any file of yours traceable without further options:

    def build_model() -> nn.Module:   the model, ready to be called
    def example_input():              a tensor, a tuple of positional arguments or a dict of keyword arguments

Read them in this order: linear, feedforward, cnn, rnn, transformer.
"""

"""The objective of training as pure functions: views, terms, losses, optimizers, train step."""

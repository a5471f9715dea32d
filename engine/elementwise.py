"""elementwise"""
import torch

from .layer import Layer


class Sigmoid(Layer):
    MESSAGE = "sigmoid_param"
    FIELDS = ("engine",)

    def forward(self, bottoms):
        return [torch.sigmoid(bottoms[0])]


TYPES = {"Sigmoid": Sigmoid}

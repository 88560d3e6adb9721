"""Data that ships with cnnport.

imagenet_labels.txt: the 1,000 classes of ImageNet-1k in index order, short unique names; source: torchvision
    0.29.2, ``torchvision.models._meta`` (BSD-3-Clause).
digits_labels.txt: the ten digits.
weights/lenet5_digits.safetensors: made by examples/train_digits.py.
"""

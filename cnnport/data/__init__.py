"""Data that ships with cnnport.

imagenet_labels.txt: the 1,000 classes of ImageNet-1k in index order, short unique names; source: torchvision
    0.29.2, ``torchvision.models._meta`` (BSD-3-Clause).
cifar10_labels.txt, cifar100_labels.txt: the classes of CIFAR-10 and the fine classes of CIFAR-100 in index order.
digits_labels.txt: the ten digits.
documents.json: what the five documents that the zoo was made from state of each network, and where they err.
weights/*.safetensors: made by examples/train_digits.py; each says in its metadata by which recipe.
"""

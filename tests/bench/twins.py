# SPDX-License-Identifier: MIT
"""The benchmark's models as a user of PyTorch would write them, one for each file in models/.

MODELS[name] has the network, what becomes of its weights' names, the steps (each a loss over named inputs and the
submodules it trains) and the function that predicts. Every step has an optimizer of its own.
"""
from dataclasses import dataclass
import re
from typing import Callable

import torch
import torch.nn as nn
import torch.nn.functional as F


class ConvBn(nn.Module):
    def __init__(self, i, o, k, s):
        super().__init__()
        self.conv = nn.Conv2d(i, o, k, s, (k - 1) // 2, bias=False)
        self.bn = nn.BatchNorm2d(o)

    def forward(self, x):
        return self.bn(self.conv(x))


class Mlp(nn.Module):
    def __init__(self, *sizes):
        super().__init__()
        for i, (a, b) in enumerate(zip(sizes, sizes[1:])):
            setattr(self, f"fc{i + 1}", nn.Linear(a, b))
        self.n = len(sizes) - 1

    def forward(self, x):
        for i in range(1, self.n):
            x = F.relu(getattr(self, f"fc{i}")(x))
        return getattr(self, f"fc{self.n}")(x)


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.f1, self.f2, self.f3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.c1(x)), 2)
        x = F.max_pool2d(F.relu(self.c2(x)), 2).flatten(1)
        return self.f3(F.relu(self.f2(F.relu(self.f1(x)))))


class Residual(nn.Module):
    def __init__(self, i, o, s):
        super().__init__()
        self.a, self.b = ConvBn(i, o, 3, s), ConvBn(o, o, 3, 1)
        self.proj = ConvBn(i, o, 1, s) if s != 1 or i != o else None

    def forward(self, x):
        h = self.b(F.relu(self.a(x)))
        return F.relu(h + (x if self.proj is None else self.proj(x)))


class ResNet20(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = ConvBn(3, 16, 3, 1)
        self.stage = nn.ModuleList()
        i = 16
        for k in range(3):
            row = nn.ModuleList()
            for j in range(3):
                row.append(Residual(i, 16 * 2 ** k, 2 if k > 0 and j == 0 else 1))
                i = 16 * 2 ** k
            self.stage.append(row)
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        x = F.relu(self.stem(x))
        for row in self.stage:
            for block in row:
                x = block(x)
        return self.head(x.mean((2, 3)))


class Vgg11(nn.Module):
    def __init__(self):
        super().__init__()
        widths = [64, 128, 256, 256, 512, 512, 512, 512]
        self.pooled = [True, True, False, True, False, True, False, True]
        self.conv = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in zip([3] + widths, widths))
        self.bn = nn.ModuleList(nn.BatchNorm2d(o) for o in widths)
        self.head = nn.Linear(512, 10)

    def forward(self, x):
        for conv, bn, pooled in zip(self.conv, self.bn, self.pooled):
            x = F.relu(bn(conv(x)))
            if pooled:
                x = F.max_pool2d(x, 2)
        return self.head(x.flatten(1))


class Separable(nn.Module):
    def __init__(self, i, o, s):
        super().__init__()
        self.depth, self.bn1 = nn.Conv2d(i, i, 3, s, 1, groups=i, bias=False), nn.BatchNorm2d(i)
        self.point, self.bn2 = nn.Conv2d(i, o, 1, bias=False), nn.BatchNorm2d(o)

    def forward(self, x):
        x = F.relu(self.bn1(self.depth(x)))
        return F.relu(self.bn2(self.point(x)))


class MobileNet(nn.Module):
    def __init__(self):
        super().__init__()
        widths = [64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024]
        strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]
        self.stem, self.bn = nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32)
        self.unit = nn.ModuleList(Separable(i, o, s) for i, o, s in zip([32] + widths, widths, strides))
        self.head = nn.Linear(1024, 1000)

    def forward(self, x):
        x = F.relu(self.bn(self.stem(x)))
        for unit in self.unit:
            x = unit(x)
        return self.head(x.mean((2, 3)))


class Bottleneck(nn.Module):
    def __init__(self, i, c, s):
        super().__init__()
        self.a, self.b, self.c = ConvBn(i, c, 1, 1), ConvBn(c, c, 3, s), ConvBn(c, 4 * c, 1, 1)
        self.proj = ConvBn(i, 4 * c, 1, s) if s != 1 or i != 4 * c else None

    def forward(self, x):
        h = self.c(F.relu(self.b(F.relu(self.a(x)))))
        return F.relu(h + (x if self.proj is None else self.proj(x)))


class ResNet50(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = ConvBn(3, 64, 7, 2)
        self.stage = nn.ModuleList()
        i = 64
        for k, depth in enumerate([3, 4, 6, 3]):
            row = nn.ModuleList()
            for j in range(depth):
                row.append(Bottleneck(i, 64 * 2 ** k, 2 if k > 0 and j == 0 else 1))
                i = 256 * 2 ** k
            self.stage.append(row)
        self.head = nn.Linear(2048, 1000)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.stem(x)), 3, 2, 1)
        for row in self.stage:
            for block in row:
                x = block(x)
        return self.head(x.mean((2, 3)))


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.rnn = kind(128, 256, num_layers=2, batch_first=True)
        self.head = nn.Linear(256, 10)

    def forward(self, x):
        hs, _ = self.rnn(x)
        return self.head(hs[:, -1])


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(1000, 256)
        self.positions = nn.Parameter(torch.empty(128, 256))
        layer = nn.TransformerEncoderLayer(256, 8, 1024, dropout=0.0, batch_first=True)
        self.stack = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.head = nn.Linear(256, 10)

    def forward(self, ids):
        return self.head(self.stack(self.embed(ids) + self.positions).mean(1))


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.e1, self.e2 = nn.Linear(784, 256), nn.Linear(256, 64)
        self.d1, self.d2 = nn.Linear(64, 256), nn.Linear(256, 784)

    def forward(self, x):
        h = F.relu(self.e2(F.relu(self.e1(x))))
        return torch.sigmoid(self.d2(F.relu(self.d1(h))))


class VaeEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.mu, self.logvar = nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20)

    def forward(self, x):
        h = F.relu(self.fc(x))
        return self.mu(h), self.logvar(h)


class Vae(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.dec = VaeEncoder(), Mlp(20, 400, 784)

    def forward(self, x):
        h = F.relu(self.enc.fc(x))
        return torch.sigmoid(self.dec(self.enc.mu(h)))

    def loss(self, x, noise):
        mu, lv = self.enc(x)
        z = self.dec(mu + torch.exp(0.5 * lv) * noise)
        rec = F.binary_cross_entropy_with_logits(z, x, reduction="none").sum(1).mean()
        return rec - 0.5 * (1 + lv - mu.square() - lv.exp()).sum(1).mean()


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.bn0 = nn.Linear(100, 256 * 16), nn.BatchNorm2d(256)
        self.up1, self.bn1 = nn.ConvTranspose2d(256, 128, 4, 2, 1, bias=False), nn.BatchNorm2d(128)
        self.up2, self.bn2 = nn.ConvTranspose2d(128, 64, 4, 2, 1, bias=False), nn.BatchNorm2d(64)
        self.up3 = nn.ConvTranspose2d(64, 3, 4, 2, 1)

    def forward(self, z):
        x = F.relu(self.bn0(self.fc(z).reshape(-1, 256, 4, 4)))
        x = F.relu(self.bn1(self.up1(x)))
        x = F.relu(self.bn2(self.up2(x)))
        return torch.tanh(self.up3(x))


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv2d(3, 64, 4, 2, 1)
        self.c2, self.bn2 = nn.Conv2d(64, 128, 4, 2, 1, bias=False), nn.BatchNorm2d(128)
        self.c3, self.bn3 = nn.Conv2d(128, 256, 4, 2, 1, bias=False), nn.BatchNorm2d(256)
        self.out = nn.Linear(4096, 1)

    def forward(self, x):
        x = F.leaky_relu(self.c1(x), 0.2)
        x = F.leaky_relu(self.bn2(self.c2(x)), 0.2)
        x = F.leaky_relu(self.bn3(self.c3(x)), 0.2)
        return self.out(x.flatten(1))


class Gan(nn.Module):
    def __init__(self):
        super().__init__()
        self.G, self.D = Generator(), Discriminator()

    def forward(self, noise):
        return self.G(noise)

    def loss_d(self, x, noise):
        with torch.no_grad():
            fake = self.G(noise)
        real, made = self.D(x), self.D(fake)
        return (F.binary_cross_entropy_with_logits(real, torch.ones_like(real))
                + F.binary_cross_entropy_with_logits(made, torch.zeros_like(made)))

    def loss_g(self, noise):
        made = self.D(self.G(noise))
        return F.binary_cross_entropy_with_logits(made, torch.ones_like(made))


class ConvNet(nn.Module):
    """growth_conv.nn: depth 3x3 convolutions of one width at one image size."""

    def __init__(self, WIDTH=32, DEPTH=4, SIZE=32):
        super().__init__()
        self.conv = nn.ModuleList(nn.Conv2d(3 if i == 0 else WIDTH, WIDTH, 3, padding=1) for i in range(DEPTH))
        self.bn = nn.ModuleList(nn.BatchNorm2d(WIDTH) for _ in range(DEPTH))
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, x):
        for conv, bn in zip(self.conv, self.bn):
            x = F.relu(bn(conv(x)))
        return self.head(x.mean((2, 3)))


class DeepMlp(nn.Module):
    """growth_mlp.nn: depth dense layers of one width."""

    def __init__(self, WIDTH=256, DEPTH=3):
        super().__init__()
        self.fc = nn.ModuleList(nn.Linear(784 if i == 0 else WIDTH, WIDTH) for i in range(DEPTH))
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, x):
        for fc in self.fc:
            x = F.relu(fc(x))
        return self.head(x)


# ---- weights by nnc's names ----

def indexed(name, w):
    """stage.0.1.a.weight is net.stage[0][1].a.weight."""
    return w["net." + re.sub(r"\.(\d+)", r"[\1]", name)]


def members(name, w):
    return w[name]


def recurrent_names(name, w):
    m = re.match(r"rnn\.(\w+_[ih]h)_l(\d)$", name)
    return w[f"net.l{m[2]}.{m[1]}"] if m else w["net." + name]


def encoder_names(name, w):
    """PyTorch keeps the projections q, k and v as one matrix."""
    if name == "positions":
        return w["net.positions.weight"]
    m = re.match(r"stack\.layers\.(\d)\.(.*)\.?(weight|bias)$", name)
    if not m:
        return w["net." + name]
    layer, part, kind = f"net.stack[{m[1]}].", m[2].rstrip("."), m[3]
    if part == "self_attn.in_proj_":
        return torch.cat([w[f"{layer}attention.{p}.{kind}"] for p in "qkv"])
    ours = {"self_attn.out_proj": "attention.out", "linear1": "ff.up", "linear2": "ff.down"}
    return w[f"{layer}{ours.get(part, part)}.{kind}"]


# ---- the table ----

def sgd(p):
    return torch.optim.SGD(p, lr=0.01, fused=True)


def momentum(p):
    return torch.optim.SGD(p, lr=0.01, momentum=0.9, fused=True)


def momentum_slow(p):
    return torch.optim.SGD(p, lr=1e-3, momentum=0.9, fused=True)


def momentum_creeping(p):
    """At 1e-3 the first update of a ResNet-50 with fresh weights goes far beyond where its gradient holds, and the next
    losses say more about rounding than about the model."""
    return torch.optim.SGD(p, lr=2e-5, momentum=0.9, fused=True)


def adam(p):
    return torch.optim.Adam(p, lr=1e-3, fused=True)


def adam_slow(p):
    return torch.optim.Adam(p, lr=1e-4, fused=True)


def adam_gan(p):
    return torch.optim.Adam(p, lr=2e-4, betas=(0.5, 0.999), fused=True)


@dataclass
class Input:
    name: str
    shape: list
    limit: int = 0  # integers below it; 0: reals


@dataclass
class Step:
    loss: Callable  # loss(net, *inputs)
    inputs: list
    trains: Callable = lambda net: net
    optimizer: Callable = adam


@dataclass
class Twin:
    net: Callable
    steps: list
    predict: Callable  # predict(net, x), over the first input
    first: Input
    name: Callable = indexed


def probabilities(net, x):
    return F.softmax(net(x), 1)


def outputs(net, x):
    return net(x)


def classifier(net, shape, optimizer, classes=10, name=indexed, first=None, predict=probabilities):
    x = first or Input("x", shape)
    return Twin(net, [Step(lambda n, x, y: F.cross_entropy(n(x), y), [x, Input("y", [], classes)], optimizer=optimizer)],
                predict, x, name)


X784 = Input("x", [784])
IMAGE, NOISE = Input("x", [3, 32, 32]), Input("noise", [100])
MODELS = {
    "m1": classifier(lambda: Mlp(784, 64, 10), [784], sgd),
    "m2": classifier(lambda: Mlp(784, 512, 512, 10), [784], adam),
    "m3": classifier(LeNet, [1, 28, 28], adam),
    "m4": classifier(ResNet20, [3, 32, 32], momentum),
    "m5": classifier(Vgg11, [3, 32, 32], momentum_slow),
    "m6": classifier(MobileNet, [3, 224, 224], momentum_slow, 1000),
    "m7": classifier(ResNet50, [3, 224, 224], momentum_creeping, 1000, predict=outputs),
    "m8": classifier(lambda: Recurrent(nn.LSTM), [64, 128], adam, name=recurrent_names),
    "m9": classifier(lambda: Recurrent(nn.GRU), [64, 128], adam, name=recurrent_names),
    "m10": classifier(Encoder, [], adam_slow, name=encoder_names, first=Input("ids", [128], 1000)),
    "m11": Twin(Autoencoder, [Step(lambda n, x: F.mse_loss(n(x), x), [X784])], outputs, X784),
    "m12": Twin(Vae, [Step(lambda n, x, e: n.loss(x, e), [X784, Input("noise", [20])])], outputs, X784, members),
    "m13": Twin(Gan, [Step(lambda n, x, e: n.loss_d(x, e), [IMAGE, NOISE], lambda n: n.D, adam_gan),
                      Step(lambda n, e: n.loss_g(e), [NOISE], lambda n: n.G, adam_gan)], outputs, NOISE, members),
}


def find(name, defines):
    """The twin of a model; `defines` are the numbers nnc got with -D. How nnc computes a layer is nothing to a twin."""
    if name == "growth_conv":
        size = defines.get("SIZE", 32)
        return classifier(lambda: ConvNet(**defines), [3, size, size], momentum)
    if name == "growth_mlp":
        return classifier(lambda: DeepMlp(**defines), [784], adam)
    return MODELS[name]

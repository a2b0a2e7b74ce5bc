"""@NAME@, a backbone written by bbc @VERSION@.

Needs torch and nothing else. Parameters are named as `bbc compile --weights` takes them, so that what is trained here
can be compiled:

    from safetensors.torch import save_file
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, "weights.safetensors")
    # bbc compile --spec SPEC --weights weights.safetensors
"""

import torch
from torch import Tensor, nn
#{ branched
from torch.nn import functional as F
#}
#{ affine


class LearnableAffine(nn.Module):
    """`scale * x + bias`, one number each."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x + self.bias
#}


class ConvNormAct(nn.Module):
#{ affine
    """Convolution and batch normalisation; with `act`, a ReLU and a learnable affine."""
#}
#{ !affine
    """Convolution and batch normalisation; with `act`, a ReLU."""
#}

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        window: tuple[int, int],
        stride: int = 1,
        groups: int = 1,
        pad: bool = True,
        act: bool = True,
    ) -> None:
        super().__init__()
        padding = tuple(side // 2 for side in window) if pad else 0
        self.conv = nn.Conv2d(in_channels, out_channels, window, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.act = nn.ReLU() if act else nn.Identity()
#{ affine
        self.lab = LearnableAffine() if act else nn.Identity()
#}

    def forward(self, x: Tensor) -> Tensor:
#{ affine
        return self.lab(self.act(self.bn(self.conv(x))))
#}
#{ !affine
        return self.act(self.bn(self.conv(x)))
#}
#{ light


class LightConv(nn.Module):
    """A 1x1 convolution without activation, then a depthwise one."""

    def __init__(self, in_channels: int, out_channels: int, window: tuple[int, int]) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(in_channels, out_channels, (1, 1), act=False)
        self.conv2 = ConvNormAct(out_channels, out_channels, window, groups=out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x))
#}
#{ ese


class EffectiveSqueezeExcite(nn.Module):
    """Every channel times a factor made of the means of all."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.conv(x.mean((2, 3), keepdim=True)).sigmoid()
#}
#{ stacked


class Stem(nn.Module):
    """3x3 convolutions, the first with stride 2, then a max pool."""

    def __init__(self, in_channels: int, channels: list[int]) -> None:
        super().__init__()
        inputs = [in_channels, *channels]
        self.stem = nn.Sequential(
            *(
                ConvNormAct(inputs[i], channels[i], (3, 3), stride=2 if i == 0 else 1)
                for i in range(len(channels))
            )
        )
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.stem(x))
#}
#{ branched


class Stem(nn.Module):
    """A max pool beside two 2x2 convolutions, between convolutions that make the image smaller."""

    def __init__(self, in_channels: int, mid: int, out: int) -> None:
        super().__init__()
        self.stem1 = ConvNormAct(in_channels, mid, (3, 3), stride=2)
        self.stem2a = ConvNormAct(mid, mid // 2, (2, 2), pad=False)
        self.stem2b = ConvNormAct(mid // 2, mid, (2, 2), pad=False)
        self.stem3 = ConvNormAct(2 * mid, mid, (3, 3), stride=2)
        self.stem4 = ConvNormAct(mid, out, (1, 1))
        self.pool = nn.MaxPool2d(2, stride=1)

    def forward(self, x: Tensor) -> Tensor:
        # Zeros at the right and at the bottom: the pool sees them too.
        one_more = (0, 1, 0, 1)
        x = F.pad(self.stem1(x), one_more)
        y = self.stem2b(F.pad(self.stem2a(x), one_more))
        return self.stem4(self.stem3(torch.cat([self.pool(x), y], dim=1)))
#}


class Block(nn.Module):
    """Stacked convolutions, the outputs of all of them side by side, and 1x1 convolutions back down to `out`."""

    def __init__(
        self,
        in_channels: int,
        mid: int,
        out: int,
        layers: int,
        window: tuple[int, int],
        residual: bool,
#{ grouped
        groups: int,
#}
#{ light
        light: bool,
#}
#{ squeeze
        squeeze_excite: bool,
#}
#{ ese
        ese: bool,
#}
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for i in range(layers):
            inputs = in_channels if i == 0 else mid
#{ light
            if light:
                self.layers.append(LightConv(inputs, mid, window))
                continue
#}
#{ grouped
            self.layers.append(ConvNormAct(inputs, mid, window, groups=groups))
#}
#{ !grouped
            self.layers.append(ConvNormAct(inputs, mid, window))
#}
        concatenated = in_channels + layers * mid
#{ squeeze
        if squeeze_excite:
            down = [ConvNormAct(concatenated, out // 2, (1, 1)), ConvNormAct(out // 2, out, (1, 1))]
        else:
            down = [ConvNormAct(concatenated, out, (1, 1))]
#}
#{ !squeeze
        down = [ConvNormAct(concatenated, out, (1, 1))]
#}
#{ ese
        if ese:
            down.append(EffectiveSqueezeExcite(out))
#}
        self.aggregation = nn.Sequential(*down)
        self.residual = residual and in_channels == out

    def forward(self, x: Tensor) -> Tensor:
        outputs = [x]
        for layer in self.layers:
            outputs.append(layer(outputs[-1]))
        y = self.aggregation(torch.cat(outputs, dim=1))
        return y + x if self.residual else y


class Stage(nn.Module):
    """Down-sampling without an activation, then blocks at one resolution."""

    def __init__(
        self,
        in_channels: int,
        mid: int,
        out: int,
        blocks: int,
        layers: int,
        stride: int = 1,
#{ either_down
        dense_down: bool = False,
#}
        window: tuple[int, int] = (3, 3),
        residual: bool = True,
#{ grouped
        groups: int = 1,
#}
#{ light
        light: bool = False,
#}
#{ squeeze
        squeeze_excite: bool = False,
#}
#{ ese
        ese: bool = False,
#}
    ) -> None:
        super().__init__()
        self.downsample = (
#{ depthwise_down
            ConvNormAct(in_channels, in_channels, (3, 3), stride, groups=in_channels, act=False)
#}
#{ dense_down
            ConvNormAct(in_channels, in_channels, (3, 3), stride, act=False)
#}
#{ either_down
            ConvNormAct(in_channels, in_channels, (3, 3), stride, groups=1 if dense_down else in_channels, act=False)
#}
            if stride > 1
            else nn.Identity()
        )
        self.blocks = nn.Sequential(
            *(
                Block(
                    in_channels if i == 0 else out,
                    mid,
                    out,
                    layers,
                    window,
                    residual=residual and i > 0,
#{ grouped
                    groups=groups,
#}
#{ light
                    light=light,
#}
#{ squeeze
                    squeeze_excite=squeeze_excite,
#}
#{ ese
                    ese=ese,
#}
                )
                for i in range(blocks)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.downsample(x))
#{ head


class Head(nn.Module):
    """Global pool, a fully connected layer with its activation, the classifier."""

    def __init__(self, in_channels: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.last_conv = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 1, bias=False),
            nn.ReLU(),
#{ affine
            LearnableAffine(),
#}
        )
        self.fc = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.last_conv(x.mean((2, 3), keepdim=True))
        return self.fc(x.flatten(1))
#}


class Backbone(nn.Module):
#{ head
#{ !chosen
    """Images to one score for each class."""
#}
#{ chosen
    """Images to feature maps and one score for each class."""
#}

    def __init__(self, in_channels: int = @IN_CHANNELS@, classes: int = @CLASSES@) -> None:
#}
#{ !head
#{ !chosen
    """Images to the feature maps of the stages, the largest first."""
#}
#{ chosen
    """Images to feature maps."""
#}

    def __init__(self, in_channels: int = @IN_CHANNELS@) -> None:
#}
        super().__init__()
        self.stem = Stem(in_channels, @STEM@)
        self.stages = nn.ModuleList([
@STAGES@
        ])
#{ head
        self.head = Head(@FEATURES@, hidden=@HIDDEN@, classes=classes)
#}
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """The feature map of every stage."""
        x = self.stem(x)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features

#{ chosen
    def forward(self, x: Tensor) -> list[Tensor]:
        features = self.forward_features(x)
        return [@OUTPUTS@]
#}
#{ !chosen
#{ head
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.forward_features(x)[-1])
#}
#{ !head
    def forward(self, x: Tensor) -> list[Tensor]:
        return self.forward_features(x)
#}
#}

"""Wrong twins of the equations of chapter 02; the format stands in ``tests/twins/__init__.py``."""

FAMILY = "course_utils.models.autoregressive"
MADE = f"{FAMILY}.made"
LOGISTICS = "course_utils.distributions:DiscretisedLogisticMixture"

TWINS = {
    "2.1": [
        ("p(x_≤i) in place of the conditional", "cell", "factor = upto / before.repeat(2)", "factor = upto"),
        ("each conditional looks at the pixel before it only", "cell", "before, group = upto, longer",
         "before, group = upto, 2**i * states[:, pixel].long()"),
        ("a conditional is left out", "cell", "product *= factor[longer]", "product *= factor[longer] if i else 1"),
    ],
    "2.2": [
        ("a pixel sees itself", f"{MADE}:made_masks", "out > below[-1]", "out >= below[-1]"),
        ("a mean over pixels for the sum", f"{MADE}:MADE.log_prob_in_order", ".sum(1)", ".mean(1)"),
        ("the direct wires lead a pixel to itself", f"{MADE}:made_masks", "out > ranks", "out >= ranks"),
    ],
    "2.3": [
        ("a mean over pixels for the sum", f"{FAMILY}.baselines:LogisticPixels.log_prob", ".sum(1)", ".mean(1)"),
        ("the loss is divided by the pixels", f"{FAMILY}.baselines:LogisticPixels.loss", ".mean()}",
         ".mean() / batch[0].numel()}"),
        ("ink and paper are exchanged", "course_utils.distributions:Head.__call__",
         "Bernoulli(logits=params", "Bernoulli(logits=-params"),
        ("only the ink counts", "cell", "by_formula = -(x * p.log() + (1 - x) * (1 - p).log())",
         "by_formula = -(x * p.log())"),
    ],
    "2.4": [
        ("> for ≥ into the hidden units", f"{MADE}:made_masks", "after[:, None] >= before", "after[:, None] > before"),
        ("≥ for > into the outputs", f"{MADE}:made_masks", "out > below[-1]", "out >= below[-1]"),
        ("≥ for > in the direct wires", f"{MADE}:made_masks", "out > ranks", "out >= ranks"),
    ],
    "2.5": [
        ("a sum over the orders for the mean", f"{MADE}:MADE.log_prob", " - math.log(len(each))", ""),
        ("the mean of the logarithms", f"{MADE}:MADE.log_prob", "torch.logsumexp(each, 0) - math.log(len(each))",
         "each.mean(0)"),
    ],
    "2.6": [
        ("kind A sees its own place", "course_utils.nn.masked:causal_mask",
         'colour_in < colour_out if kind == "A" else', 'colour_in <= colour_out if kind == "A" else'),
        ("the mask is forgotten", "course_utils.nn.masked:MaskedConv2d.forward", "self.weight * self.mask",
         "self.weight"),
        ("the pixels to the left are not seen", "course_utils.nn.masked:causal_mask",
         "mask[:, :, radius, :radius] = 1", "mask[:, :, radius, :radius] = 0"),
        ("the kernel is one row too low", "course_utils.nn.masked:MaskedConv2d.forward",
         "(radius, radius, radius, 0)", "(radius, radius, radius - 1, 1)"),
    ],
    "2.7": [
        ("tanh and σ are exchanged", f"{FAMILY}.pixelcnn:gate", "torch.tanh(signal) * torch.sigmoid(valve)",
         "torch.sigmoid(signal) * torch.tanh(valve)"),
        ("h does not hear v", f"{FAMILY}.pixelcnn:GatedLayer.forward", "self.across(a) + ", ""),
        ("no way around the gate", f"{FAMILY}.pixelcnn:GatedLayer.forward", "h + self.mix", "self.mix"),
        ("the class is not told", f"{FAMILY}.pixelcnn:GatedLayer.forward", " + self.bias(y)", ""),
    ],
    "2.8": [
        ("nats per dimension", "course_utils.metrics:bits_per_dim", " * math.log(2.0))", ")"),
        ("a logarithm to base 10", "course_utils.metrics:bits_per_dim", "math.log(2.0)", "math.log(10.0)"),
        ("bits per image", "course_utils.metrics:bits_per_dim", 'expect.count(n_dims, "n_dims") * ', ""),
    ],
    "2.9": [
        ("one bit too many", "course_utils.coding:encode", "width.bit_length() + 2", "width.bit_length() + 3"),
        ("one bit too few", "course_utils.coding:encode", "width.bit_length() + 2", "width.bit_length() + 1"),
        ("ink and paper exchanged in the shares", "chapter:ask_pixel_by_pixel", "[1 - p, p]", "[p, 1 - p]"),
    ],
    "2.10": [
        ("nothing is forgotten", f"{FAMILY}.pixelrnn:lstm_step", "torch.sigmoid(f) * c +", "c +"),
        ("the state without tanh", f"{FAMILY}.pixelrnn:lstm_step", "torch.sigmoid(o) * torch.tanh(c)",
         "torch.sigmoid(o) * c"),
        ("the gates in another order", f"{FAMILY}.pixelrnn:lstm_step", "o, f, i, g =", "i, f, o, g ="),
    ],
    "2.11": [
        ("the cached sampler runs the whole network for each pixel", f"{FAMILY}.sampling:cached_sample",
         "params = cache.pixel(j, c)", "params = (model.params(x, y), cache.pixel(j, c))[1]"),
        ("the naive sampler asks the network once a row", f"{FAMILY}.sampling:ancestral_sample",
         "            params = model.params(x, y)", "            if position % x.shape[-1] == 0:\n"
         "                answer = model.params(x, y)\n            params = answer"),
        ("naive work grows like N³", "cell", "(sampling.ancestral_sample, 4)", "(sampling.ancestral_sample, 3)"),
    ],
    "2.12": [
        ("times T for divided by T", "course_utils.distributions:tempered", "distribution.logits / temperature",
         "distribution.logits * temperature"),
        ("more than two levels are not tempered", "course_utils.distributions:tempered", "log_p / temperature",
         "log_p"),
        ("the powers are not normalised", "cell", "squared = p**2 / (p**2 + (1 - p) ** 2)", "squared = p**2"),
    ],
    "2.13": [
        ("p(y) is forgotten", "cell", "(each + log_p_y).log_softmax(1)", "each.log_softmax(1)"),
        ("the image is forgotten", "cell", "(each + log_p_y).log_softmax(1)", "(0 * each + log_p_y).log_softmax(1)"),
        ("a mean over pixels for the sum", f"{FAMILY}.pixelcnn:PixelCNN.log_prob", ".sum(1)", ".mean(1)"),
    ],
    "2.14": [
        ("the future is attended to", f"{FAMILY}.transformer:CausalAttention.forward", "is_causal=True",
         "is_causal=False"),
        ("not divided by the root of d", f"{FAMILY}.transformer:CausalAttention.forward", "is_causal=True",
         "is_causal=True, scale=1.0"),
        ("divided by d", f"{FAMILY}.transformer:CausalAttention.forward", "is_causal=True",
         "is_causal=True, scale=1 / h.shape[-1]"),
    ],
    "2.15": [
        ("the parts are not weighed", f"{LOGISTICS}.log_prob", "self.log_weight + log_p", "log_p"),
        ("half a level is a level", f"{LOGISTICS}.log_prob", "half = 1 / (self.levels - 1)",
         "half = 2 / (self.levels - 1)"),
        ("no tail at level 0", f"{LOGISTICS}.log_prob", "torch.where(is_first, F.logsigmoid(upper)",
         "torch.where(is_first, inside"),
        ("the scale upside down", f"{LOGISTICS}.__init__", "torch.exp(-log_scale", "torch.exp(log_scale"),
    ],
}

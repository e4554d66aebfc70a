"""The whole network: who works on what, seeds, plug-ins, ablations, gradients."""

import dataclasses
import json
from dataclasses import replace

import pytest
import torch
from mofrr.backbones import Backbone
from mofrr.combine import Combine
from mofrr.config import OPERATIONS, PRESETS, SINGLE, LossConfig, ModelConfig, TrainConfig
from mofrr.denoiser import _SelfAttention
from mofrr.losses import HIGH, L1, TV, expert_losses, shared_losses
from mofrr.mam import GROUPS, WIDTH, Grouping, ResNetMAM, assignment
from mofrr.model import SEED_STRIDE, MoFRR
from mofrr.sampling import Diffusion, generators_for
from mofrr.wavefrr import without_residual
from retouch_common.config import apply_overrides, from_dict
from torchvision.models.resnet import Bottleneck, ResNet

TINY = PRESETS["tiny"].model


def built(config=TINY, seed=0, awake=True):
    """An untrained network; ``awake``: what starts at zero gets some weights, so that everything changes something."""
    torch.manual_seed(seed)
    model = MoFRR(config).eval()
    if awake:
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 4 and not parameter.any():
                    parameter.normal_(std=0.05)
    return model


def pictures(count=3, size=64, seed=1):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def gate(model, rows):
    """Let the router answer these rows."""
    answers = torch.tensor(rows).float() * 20 - 10
    model.router.forward = lambda image, traces: answers[: len(image)]


class Calls:
    """Counts forward calls of modules and the pictures in them."""

    def __init__(self, **modules):
        self.sizes = {name: [] for name in modules}
        for name, module in modules.items():
            module.register_forward_pre_hook(lambda _, inputs, name=name: self.sizes[name].append(len(inputs[0])))


def test_inactive_experts_cost_nothing_and_active_ones_see_one_batch():
    """Three faces: whitened and lifted, untouched, whitened. Two DDIM steps."""
    model = built()
    gate(model, [[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0]])
    calls = Calls(
        **{name: model.experts[name].denoiser for name in OPERATIONS},
        **{f"degree {name}": model.estimators[name] for name in OPERATIONS},
        shared=model.shared.denoiser,
        combine=model.combine,
    )
    found = model.restore(pictures())
    assert calls.sizes == {
        "white": [2, 2],
        "smooth": [],
        "lift": [1, 1],
        "eye": [],
        "degree white": [2],
        "degree smooth": [],
        "degree lift": [1],
        "degree eye": [],
        "shared": [2, 2],
        "combine": [2],
    }
    assert found.gates.tolist() == [[True, False, True, False], [False] * 4, [True, False, False, False]]
    assert (found.degrees > 0).tolist() == found.gates.tolist()


def test_an_experts_change_counts_as_a_whole_or_not():
    """However sure the router is."""
    model = built()
    model.router.forward = lambda image, traces: (
        torch.tensor([[0.9, -1.0, 0.6, 0.4]]).logit(eps=1e-6).expand(len(image), -1)
    )
    seen, forward = [], model.combine.forward
    model.combine.forward = lambda *given: seen.append(given[-1].float().tolist()) or forward(*given)
    model.restore(pictures(1))
    model.restore(pictures(1), experts=["eye"])
    assert seen == [[[1.0, 0.0, 1.0, 0.0]], [[0.0, 0.0, 0.0, 1.0]]]


def test_an_untouched_face_comes_back_to_the_bit():
    model = built()
    gate(model, [[0, 0, 0, 0], [0, 1, 0, 0]])
    image = pictures(2)
    found = model.restore(image)
    assert torch.equal(found.result[0], image[0]) and not torch.equal(found.result[1], image[1])


def test_a_face_depends_on_its_seed_not_on_its_batch():
    model, image = built(), pictures()
    chosen = {"experts": ["white", "eye"]}
    together = model.restore(image, seeds=[5, 6, 7], **chosen).result
    turned = model.restore(image.flip(0), seeds=[7, 6, 5], **chosen).result.flip(0)
    alone = torch.cat([model.restore(image[i : i + 1], seeds=5 + i, **chosen).result for i in range(3)])
    assert torch.allclose(together, turned, atol=1e-5) and torch.allclose(together, alone, atol=1e-5)
    assert not torch.allclose(together, model.restore(image, seeds=8, **chosen).result, atol=1e-5)


def test_samples_are_averaged():
    model, image = built(), pictures(1)
    one = [model.restore(image, seeds=s, experts=["lift"]).experts["lift"] for s in (3, 3 + SEED_STRIDE)]
    both = model.restore(image, seeds=3, experts=["lift"], samples=2).experts["lift"]
    inside = ((one[0] > 0) & (one[0] < 1) & (one[1] > 0) & (one[1] < 1)) & (both > 0) & (both < 1)
    assert inside.float().mean() > 0.5
    assert torch.allclose(both[inside], ((one[0] + one[1]) / 2)[inside], atol=1e-5)


def test_any_size():
    found = built().restore(pictures(1, 64)[..., :51, :62], experts=list(OPERATIONS))
    assert found.result.shape == (1, 3, 51, 62)


def test_degree_is_an_expectation():
    model = built()
    model.estimators["white"].forward = lambda image, traces: torch.log(
        torch.tensor([[0.5, 0.0, 0.0, 0.0, 0.5]]) + 1e-12
    )
    assert model.degree("white", pictures(1)).item() == pytest.approx((1 + 5) / 2 / 5, abs=1e-4)


def test_chosen_experts_overrule_the_router():
    model = built()
    gate(model, [[1, 1, 1, 1]])
    assert model.restore(pictures(1), experts=["eye"]).gates.tolist() == [[False, False, False, True]]
    with pytest.raises(ValueError, match="unknown expert nose; choose from white, smooth, lift, eye"):
        model.restore(pictures(1), experts=["nose"])
    with pytest.raises(ValueError, match="as many seeds"):
        model.restore(pictures(2), seeds=[1])


def test_a_new_operation_leaves_the_others_as_they_are(tmp_path):
    model, image = built(), pictures()
    before, chosen = (model.restore(image, experts=experts).result for experts in (None, ["white", "eye"]))
    logits = model.router(image)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    model.add_operation("lip_plumping")
    backbones = (model.router.backbone, model.estimators["lip_plumping"].backbone)
    assert all(
        torch.equal(*pair) for pair in zip(*(part.state_dict().values() for part in backbones), strict=True)
    )  # an estimator starts as the router's
    assert not any(module.training for module in model.modules())
    assert torch.equal(model.router(image)[:, :4], logits) and (model.router(image)[:, 4] == -4).all()
    assert torch.allclose(model.restore(image).result, before, atol=1e-6)
    assert torch.allclose(model.restore(image, experts=["white", "eye"]).result, chosen, atol=1e-6)
    now = model.state_dict()
    assert all(torch.equal(now[name], value) for name, value in weights.items())
    again = MoFRR(model.config)
    again.load_state_dict(model.state_dict())
    assert again.restore(image, experts=["lip_plumping"]).gates[:, 4].all()
    model.save_pretrained(tmp_path)
    assert "lip_plumping" in json.loads((tmp_path / "config.json").read_text())["operations"]
    with pytest.raises(ValueError, match="different"):
        model.add_operation("eye")


ABLATIONS = {
    "without IDEM": {"model.idem": False},
    "without degree": {"model.degree": False},
    "without HFCAM": {"model.hfcam": False},
    "without shared expert": {"model.shared": False},
    "without router": {"model.router": False},
    "single WaveFRR": SINGLE,
    "printed IDEM": {"model.idem_width": 0},
    "noise predicted": {
        "model.prediction": "epsilon",
        "model.residual": False,
        "model.zero_terminal_snr": False,
        "model.warm_start": True,
    },
    "two levels": {"model.levels": 2},
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_rows_of_table_4_and_other_forms(name):
    config = apply_overrides(PRESETS["tiny"], ABLATIONS[name]).model
    model, image = built(config), pictures(2)
    found = model.restore(image, experts=None if not config.router else [config.operations[0]])
    assert found.result.shape == image.shape and not torch.equal(found.result, image)
    assert found.gates.all() == (not config.router)
    assert (found.shared is None) == (not config.shared)


@pytest.mark.parametrize(
    ("flag", "part"), [("idem", "idem"), ("degree", "estimators"), ("hfcam", "hfcam"), ("shared", "shared")]
)
def test_a_part_that_is_left_out_is_absent_and_missing_in_the_result(flag, part):
    """With the same weights everywhere else."""
    config = replace(TINY, operations=("white",))
    whole, without = built(config), built(replace(config, **{flag: False}))
    weights, kept = whole.state_dict(), without.state_dict()
    absent = {name for name in weights if part in name.split(".")}
    assert absent and set(kept) == set(weights) - absent
    for name, value in kept.items():
        own = weights[name]
        if own.shape != value.shape:  # of the noise predictor's first convolution, which sees no R^ after y_t and x_LL
            own = without_residual(own)
        value.copy_(own)
    results = [model.restore(pictures(1), experts=["white"]).result for model in (whole, without)]
    assert (results[0] - results[1]).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["tiny", *ABLATIONS])
def test_every_parameter_of_an_expert_gets_a_gradient(name):
    config = apply_overrides(PRESETS["tiny"], ABLATIONS.get(name, {})).model
    model = built(config).train()
    X, Y = (2 * pictures(2, seed=s) - 1 for s in (1, 2))
    expert = next(iter(model.experts.values()))
    t, z = torch.tensor([5, 40]), torch.tensor([0.2, 0.8])
    passed = expert(X, Y, z, t, torch.randn(expert.low_size(X)))
    losses = sum(expert_losses(passed, Y).values())
    if model.shared is not None:
        losses = losses + sum(shared_losses(model.shared(X, Y, t, torch.randn_like(X)), Y).values())
    losses.backward()
    for part in (expert, model.shared):
        for parameter_name, parameter in part.named_parameters() if part is not None else ():
            assert parameter.grad is not None, parameter_name
            # A key's bias is the same for every answer, so that the softmax does not see it.
            assert parameter.grad.abs().max() > 0 or "qkv.bias" in parameter_name, parameter_name


def test_a_perfect_noise_predictor_gives_the_clean_low_band():
    config = apply_overrides(PRESETS["tiny"], ABLATIONS["noise predicted"] | {"model.T": 1000}).model
    expert = built(config).experts["white"]
    X, Y = (2 * pictures(1, seed=s) - 1 for s in (1, 2))
    low = expert._low(expert._bands(Y))

    def perfect(x_LL, y_t, z, t):
        abar = expert.diffusion.schedule.alpha_bar[t].view(-1, 1, 1, 1)
        return ((y_t - abar.sqrt() * low) / (1 - abar).sqrt()).float(), None

    expert._predict = perfect
    sampled = expert._sample(expert._low(expert._bands(X)), torch.zeros(1), [0], steps=10)[0]
    assert (sampled - low).abs().max() < 1e-4


def test_untrained_experts_that_predict_a_change_return_their_input():
    model, X = built(awake=False), 2 * pictures(2) - 1
    torch.testing.assert_close(model.experts["white"].restore(X, torch.zeros(2), [0, 1]), X, rtol=0, atol=1e-5)
    torch.testing.assert_close(model.shared.restore(X, [0, 1]), X, rtol=0, atol=1e-5)


@pytest.mark.parametrize("base", ["input", "experts"])
def test_what_an_untrained_combine_module_answers(base):
    """By hand: the input, or the input and what the active experts change."""
    combine = Combine.from_config(replace(PRESETS["tiny"].model, combine_base=base))
    X, gates = pictures(1, seed=1), torch.tensor([[1.0, 0.0, 0.75, 0.0]])
    experts = {name: pictures(1, seed=seed) for seed, name in enumerate(("white", "smooth", "lift", "eye"), 2)}
    expected = X if base == "input" else X + (experts["white"] - X) + 0.75 * (experts["lift"] - X)
    assert torch.allclose(combine(X, X, experts, gates), expected, atol=1e-6)


def test_the_combine_module_ignores_inactive_slots():
    model, X = built(), 2 * pictures(2) - 1
    gates = torch.tensor([[1, 0, 0, 0], [1, 0, 0, 0]])
    some = {"white": torch.rand_like(X), "eye": torch.full_like(X, torch.nan)}
    assert torch.equal(model.combine(X, X, some, gates), model.combine(X, X, {"white": some["white"]}, gates))


def test_mam_groups_every_pixel_once():
    logits = torch.randn(2, 5, 30)
    for training in (False, True):
        member = assignment(logits, training=training)
        assert torch.allclose(member.sum(dim=1), torch.ones(2, 30)) and ((member - member.round()).abs() < 1e-5).all()
    assert torch.equal(assignment(logits, training=False).argmax(dim=1), logits.argmax(dim=1))


def test_mam_gives_tokens_of_all_stages():
    with torch.no_grad():
        tokens = ResNetMAM().eval()(torch.rand(1, 3, 64, 64))
    assert tokens.shape == (1, 1024, 1024) and torch.isfinite(tokens).all()


def test_mams_tokens_attend_to_those_of_other_stages():
    mam = ResNetMAM().eval()
    groups = [torch.rand(1, GROUPS, WIDTH) for _ in range(4)]
    for number, tokens in enumerate(groups):
        mam.groupings[number].forward = lambda x, tokens=tokens: tokens
    with torch.no_grad():
        before = mam(torch.rand(1, 3, 64, 64))
        groups[3].neg_()
        after = mam(torch.rand(1, 3, 64, 64))
    assert (after - before)[:, :GROUPS].abs().max() > 1e-4


def test_mams_group_tokens_attend_to_the_pixels():
    """Without a pixel of its own, a group's token still depends on the pixels."""
    torch.manual_seed(0)
    grouping = Grouping(32).eval()
    torch.nn.init.zeros_(grouping.query.weight)
    torch.nn.init.zeros_(grouping.query.bias)  # every pixel is the first group's
    with torch.no_grad():
        one, other = grouping(torch.randn(1, 32, 4, 4)), grouping(torch.randn(1, 32, 4, 4))
    assert (one - other)[:, 1:].abs().max() > 1e-4


def test_backbones_see_imagenets_normalisation():
    """Its mean is 0, one standard deviation more is 1."""
    backbone = Backbone("resnet18", 32)
    backbone.network = torch.nn.Identity()
    colours = torch.tensor([[0.485, 0.456, 0.406], [0.714, 0.680, 0.631]])
    tokens = backbone(colours[..., None, None].expand(2, 3, 32, 32)).flatten(1)
    torch.testing.assert_close(tokens, torch.tensor([0.0, 1.0])[:, None].expand_as(tokens), atol=1e-5, rtol=0)


def test_refuses_impossible_configurations():
    for change, message in (
        ({"operations": ("white", "white")}, "different"),
        ({"size": 100}, "multiple of"),
        ({"combine": False}, "exactly one operation"),
        ({"residual": True, "prediction": "v", "zero_terminal_snr": False}, "prediction=x0"),
        ({"prediction": "epsilon", "residual": False}, "zero_terminal_snr"),
        ({"steps": 51}, "between 1 and"),
        ({"levels": 0}, "at least 1"),
        ({"operations": ()}, "needs model.operations"),
        ({"operations": ("all",)}, "no degree of everything"),
        ({"attention_width": 6, "attention_heads": 1}, "multiple of 4"),
        ({"attention_width": 16, "attention_heads": 3}, "attention_heads=3"),
        ({"backbone_size": 72}, "multiple of 32"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(TINY, **change)
    with pytest.raises(ValueError, match="unknown preset"):
        MoFRR.from_preset("large")
    assert ModelConfig().multiple == 32


def test_the_papers_degree_estimators_are_resnet50_and_its_router_resnet_mam():
    with torch.device("meta"):
        model = MoFRR.from_preset("paper")
    assert isinstance(model.router.backbone.network, ResNetMAM)
    for estimator in model.estimators.values():
        network = estimator.backbone.network
        assert isinstance(network, ResNet) and [len(network.get_submodule(f"layer{i}")) for i in (1, 2, 3, 4)] == [
            3, 4, 6, 3,
        ]  # fmt: skip
        assert network.conv1.out_channels == 64 and isinstance(network.layer1[0], Bottleneck)


def test_degree_estimators_may_have_another_backbone_than_the_router():
    model = built(replace(TINY, degree_backbone="subbands"))
    assert model.router.backbone.with_traces and not model.estimators["white"].backbone.with_traces
    assert model.restore(pictures(1), experts=["white"]).degrees[0, 0] > 0
    other = built(replace(TINY, backbone="subbands", degree_backbone="subbands-traces"))
    assert other.restore(pictures(1), experts=["white"]).degrees[0, 0] > 0
    with pytest.raises(ValueError, match="multiple of 32"):
        replace(TINY, backbone="resnet18", degree_backbone="subbands", backbone_size=72)


def test_the_preset_paper_is_what_is_printed():
    """Section 3 and 4.1, every option; comments name what the paper does not state."""
    paper = PRESETS["paper"]
    assert vars(paper.model) == dict(
        size=1024, operations=("white", "smooth", "lift", "eye"), backbone="mam", degree_backbone="resnet50", levels=1,
        idem_width=0, degree_map=False, prediction="epsilon", residual=False, warm_start=False, clip=False,
        zero_terminal_snr=False, refine_all=False, always_shared=True, router=True, degree=True,
        idem=True, hfcam=True, shared=True, combine=True,
        # The authors' code.
        T=200, steps=10, spacing="leading", channels=64, multipliers=(1, 2, 3, 4), blocks=2, attention_levels=(2,),
        combine_base="input",
        # Ours.
        backbone_size=512, attention_width=256, attention_heads=8, shared_channels=64, shared_multipliers=(1, 2, 3, 4),
        combine_channels=32, combine_depth=4,
    )  # fmt: skip
    assert vars(paper.loss) == dict(idem=1.0, simple=1.0, ssim=1.0, order=0.0, rollout="full")
    assert (HIGH, TV, L1) == (0.1, 0.01, 1.0)
    assert vars(paper.train) == dict(
        batch_size=16, lr=1e-4, steps=200_000, schedule="constant", shared_faces="multi", styles=(), apis=(), only="",
        betas=(0.9, 0.999), ema=0.9999, warmup=0, clip=0.0, precision="fp32",  # Adam's betas; the authors' average
        init="", ignore_mismatched_sizes=False,
        accumulate=1, channels_last=False, workers=4, seed=0, log_every=20, sheet_every=2000,
        checkpoint_every=1000,
    )  # fmt: skip


@pytest.mark.parametrize(("preset", "highest"), [("paper", 1.5), ("recommended", 1.0)])
def test_sampling_clips_but_in_the_paper(preset, highest):
    """The ideal predictor of a band that is 1.5 everywhere."""
    diffusion = Diffusion.from_config(replace(PRESETS[preset].model, warm_start=False))

    def ideal(y_t, t):
        abar = diffusion.schedule.alpha_bar[t].view(-1, 1, 1, 1).float()
        return (y_t - abar.sqrt() * 1.5) / (1 - abar).sqrt()

    sampled = diffusion.sample(ideal, torch.zeros(1, 3, 8, 8), generators_for([1], "x"))
    assert sampled.max().item() == pytest.approx(highest, abs=1e-3)


def test_the_papers_ten_steps_are_ddims():
    """Multiples of 20 below 200, as in the code of Song et al.; trailing ones begin with the noisiest timestep."""
    for preset, expected in (("paper", list(range(180, -1, -20))), ("recommended", list(range(999, 0, -100)))):
        diffusion, seen = Diffusion.from_config(PRESETS[preset].model), []

        def network(y_t, t, seen=seen):
            seen.append(int(t[0]))
            return torch.zeros_like(y_t)

        diffusion.sample(network, torch.zeros(1, 3, 8, 8), generators_for([1], "x"))
        assert seen == expected


def test_the_papers_shared_expert_works_on_every_face():
    """Fig. 3: it is continuously engaged; elsewhere a face without retouching keeps its bits."""
    assert PRESETS["paper"].model.always_shared and not PRESETS["recommended"].model.always_shared
    image = pictures(2)
    for always in (True, False):
        model = built(replace(TINY, always_shared=always))
        result = model.restore(image, experts=[]).result
        assert torch.equal(result, image) != always
        without = built(replace(TINY, always_shared=always, shared=False))
        assert torch.equal(without.restore(image, experts=[]).result, image)


@pytest.mark.parametrize("section", [ModelConfig, LossConfig, TrainConfig])
def test_configurations_of_earlier_releases_load(section):
    assert section.RETIRED and from_dict(section, section.RETIRED) == section()
    for name in section.RETIRED:
        with pytest.raises(ValueError, match=f"{name}: this release has only"):
            from_dict(section, {name: -1})


def test_weights_come_back(tmp_path):
    model = built()
    model.save_pretrained(tmp_path / "weights")
    again = MoFRR.from_pretrained(tmp_path / "weights")
    image = pictures(1)
    assert torch.equal(again.restore(image, experts=["lift"]).result, model.restore(image, experts=["lift"]).result)


@pytest.mark.parametrize("channels", [56, 88])
def test_heads_of_attention_divide_the_channels(channels):
    attention = _SelfAttention(4 * channels)
    assert attention(torch.randn(1, 4 * channels, 4, 4)).shape == (1, 4 * channels, 4, 4)

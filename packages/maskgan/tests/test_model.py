"""The framework: what goes where, what is missing, what stays, and the configurations of the paper."""

from dataclasses import replace

import pytest
import torch
from maskgan.config import COMPONENT_NAMES, PRESETS, SETTING_1, SETTING_2, ModelConfig
from maskgan.model import Codes, MaskGAN
from retouch_common.config import apply_overrides
from retouch_common.testing.parameters import randomize_parameters

TINY = PRESETS["tiny"].model


def built(**changes):
    torch.manual_seed(0)
    return randomize_parameters(MaskGAN(replace(TINY, **changes)), amount=0.02)


def placed_features(model, *arguments):
    """Norm of every pixel of what each component hands to G_m, (N, 5, S / 4, S / 4)."""
    seen = []
    hook = model.G_m.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model.generate(*arguments)
    hook.remove()
    return torch.stack([feature.abs().sum(dim=1) for feature in seen[0]], dim=1)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_presets_are_built_as_the_design_says(preset):
    """Sizes of the official code, counted: 12.1 M in E_m, G_m, E_b, G_b; `small` fits 38 MB."""
    with torch.device("meta"):
        model = MaskGAN.from_preset(preset)
    count = sum(p.numel() for p in model.parameters()) / 1e6
    if preset in ("paper", "official"):
        rest = count - sum(p.numel() for p in model.embedding.parameters()) / 1e6
        assert rest == pytest.approx(12.1, abs=0.05)
        channels = [layer[0].out_channels for layer in model.embedding["skin"].encoder.layers]
        assert channels == [64, 128, 256, 512, 512, 512, 512]
        assert [layer[0].out_channels for layer in model.embedding["eye_left"].encoder.layers] == [64, 128, 256, 512]
        assert {model.embedding[name].code for name in COMPONENT_NAMES} == {512}
    if preset == "small":
        assert count <= 9.0


def test_features_have_the_designs_sizes():
    """8 x 12, 20 x 36 and 64 x 64 at S = 256, in the faithful presets and in `small`."""
    for preset in ("paper", "small"):
        config = replace(PRESETS[preset].model, width=8, max_width=8, features=4)
        model = MaskGAN(config).eval()
        for name, size in zip(COMPONENT_NAMES, [(8, 12), (8, 12), (20, 36), (64, 64), (64, 64)], strict=True):
            with torch.no_grad():
                features = model.embedding[name].feature_decoder(torch.zeros(1, model.embedding[name].code))
            assert tuple(features.shape) == (1, 4, *size)


def test_codes_do_as_forward_does(drawn_labels, drawn_pictures):
    model = built()
    source, target, labels = drawn_pictures(2), drawn_pictures(2, seed=1), drawn_labels(2)
    with torch.no_grad():
        output = model(source, labels, target, labels.roll(1, 0))
        codes = model.encode(source, labels)
        assert torch.equal(model.generate(codes, target, labels.roll(1, 0)), output.image)
    assert list(codes.values) == list(COMPONENT_NAMES) and codes.present.all()
    assert {name: value.shape[1] for name, value in codes.values.items()} == dict(
        zip(COMPONENT_NAMES, TINY.code, strict=True)
    )


def test_every_component_goes_to_its_place_in_the_target(drawn_labels, drawn_pictures):
    """The second face is drawn one feature lower and one further left than the first."""
    model, labels = built(), drawn_labels(2)
    with torch.no_grad():
        codes = model.encode(drawn_pictures(2), labels)
    placed = placed_features(model, codes, drawn_pictures(2), labels)
    rows, columns = torch.nonzero(placed[0, 0] > 0).T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (6, 7, 5, 7)
    rows, columns = torch.nonzero(placed[1, 0] > 0).T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (7, 8, 4, 6)
    assert (placed[:, 3:] > 0).float().mean() > 0.9


def test_a_missing_component_has_no_code_no_feature_and_a_flag(drawn_labels, drawn_pictures):
    model = built()
    source, complete = drawn_labels(2, without=((0, 4), (1, 10))), drawn_labels(2)
    codes = model.encode(drawn_pictures(2), source)
    assert codes.present.tolist() == [[False, True, True, True, True], [True, True, True, True, False]]
    assert not codes.values["eye_left"][0].any() and codes.values["eye_left"][1].any()
    assert not codes.values["hair"][1].any() and codes.values["hair"][0].any()
    placed = placed_features(model, codes, drawn_pictures(2), complete)
    assert not placed[0, 0].any() and placed[1, 0].any()
    assert placed[1, 4].any(), "a zero code of hair is a bald head's, which the decoder knows"
    placed = placed_features(model, model.encode(drawn_pictures(2), complete), drawn_pictures(2), source)
    assert not placed[0, 0].any() and not placed[1, 4].any(), "the target has no place for them"


def test_the_official_code_uses_canonical_places(drawn_labels, drawn_pictures):
    model = built(missing="canonical")
    nobody = torch.zeros(1, 64, 64, dtype=torch.long)
    codes = model.encode(drawn_pictures(1), nobody)
    assert not codes.present.any() and codes.values["eye_left"].any()
    rows, columns = torch.nonzero(placed_features(model, codes, drawn_pictures(1), nobody)[0, 0]).T
    # (96, 116) / 4 is (24, 29) / 4 here: int(6 - 1.5 + 0.5), int(7.25 - 1 + 0.5).
    assert (columns.min(), rows.min()) == (5, 6)


def test_nothing_but_background_is_a_defined_case(drawn_pictures):
    model, nobody = built(), torch.zeros(2, 64, 64, dtype=torch.long)
    output = model(drawn_pictures(2), nobody, drawn_pictures(2), nobody)
    assert output.image.isfinite().all() and not any(value.any() for value in output.codes.values.values())


def test_components_are_cut_out_of_what_belongs_to_them(drawn_labels, drawn_pictures):
    """A component's window shows its pixels and mid-grey elsewhere; eyes may keep what is around them."""
    labels, picture = drawn_labels(1), drawn_pictures(1)
    models = (built(mask_eyes=mask, surroundings="zero") for mask in (True, False))
    masked, open_eyes = (model.windows(picture, labels) for model in models)
    assert (masked["eye_left"] != 0).any(dim=1).sum() == (labels == 4).sum()
    assert (open_eyes["eye_left"] != 0).all()
    assert torch.equal(masked["hair"], picture * (labels == 10)[:, None])
    mouth = (labels >= 7) & (labels <= 9)
    assert (open_eyes["mouth"] != 0).any(dim=1).sum() == mouth.sum()


def test_hair_and_skin_go_on_where_they_are_not(drawn_labels):
    """By hand: red hair and green skin are red and green all over their windows; the mouth's stays grey around it."""
    labels = drawn_labels(1)
    picture = torch.zeros(1, 3, 64, 64)
    picture[:, 0][labels == 10], picture[:, 1][labels == 1] = 0.8, 0.6
    windows = built(surroundings="continued").windows(picture, labels)
    assert (windows["hair"][:, 0] - 0.8).abs().max() < 1e-5
    skin = torch.isin(labels, torch.tensor([1, 2, 3, 6]))
    assert (windows["skin"][:, 1][~skin] > 0.3).all() and not windows["skin"][:, 0].any()
    assert not windows["mouth"][:, 1].any()


def test_large_windows_follow_their_box_in_the_paper(drawn_labels, drawn_pictures):
    """Hair from row 6 to 30 has its middle at 18: the window of 64 starts 14 rows above the picture."""
    labels, picture = drawn_labels(1), drawn_pictures(1)
    rows = torch.nonzero((labels[0] == 10).any(dim=1))[:, 0]
    assert (rows.min(), rows.max()) == (6, 29)
    window = built(whole_windows="box", snap=False, surroundings="zero").windows(picture, labels)["hair"]
    hair = picture * (labels == 10)[:, None]
    assert not window[:, :, :14].any()
    assert torch.equal(window[:, :, 14:], hair[:, :, :50])


def test_the_target_lends_its_background_only(drawn_labels, drawn_pictures):
    """Changing the target's face changes nothing; changing its background does."""
    pasted, handed_over = {"background": "pasted", "background_residual": False}, {"foreground": "picture"}
    for changes in ({}, pasted, {**handed_over, "norm": "instance"}):
        model, labels = built(**changes), drawn_labels(1)
        codes, target = model.encode(drawn_pictures(1), labels), drawn_pictures(1, seed=1)
        before = model.generate(codes, target, labels)
        face = (labels != 0)[:, None].expand_as(target)
        assert torch.equal(model.generate(codes, torch.where(face, -target, target), labels), before)
        assert not torch.equal(model.generate(codes, torch.where(face, target, -target), labels), before)


def test_setting_2_pastes_the_background(drawn_labels, drawn_pictures):
    config = apply_overrides(PRESETS["tiny"], SETTING_2).model
    model = randomize_parameters(MaskGAN(config))
    labels, target = drawn_labels(2), drawn_pictures(2, seed=1)
    output = model(drawn_pictures(2), labels, target, labels)
    behind = (labels == 0)[:, None].expand_as(target)
    assert torch.equal(output.image[behind], target[behind])
    assert not torch.equal(output.image[~behind], target[~behind])


def test_setting_1_has_one_code_for_the_face(drawn_labels, drawn_pictures):
    config = apply_overrides(PRESETS["tiny"], SETTING_1).model
    model = randomize_parameters(MaskGAN(config))
    labels, source = drawn_labels(2), drawn_pictures(2)
    output = model(source, labels, drawn_pictures(2, seed=1), labels)
    assert list(output.codes.values) == ["face"] and not output.reconstructions
    outside = (labels == 0)[:, None].expand_as(source)
    again = model.encode(torch.where(outside, -source, source), labels)
    assert torch.equal(again.values["face"], output.codes.values["face"])


def test_another_mouth_changes_the_mouth_alone(drawn_labels, drawn_pictures):
    """Without a normalisation over the picture, what lies far from a part does not notice its change at all."""
    model, labels = built(size=256, norm="none"), drawn_labels(2, side=256)
    with torch.no_grad():
        codes = model.encode(drawn_pictures(2, side=256), labels)
        target = drawn_pictures(2, side=256, seed=1)
        other = {**codes.values, "mouth": codes.values["mouth"].flip(0)}
        change = model.generate(Codes(other, codes.present), target, labels) - model.generate(codes, target, labels)
    assert change[0, :, 160:200, 90:170].abs().mean() > 1e-4
    assert change[0, :, :100].abs().max() == 0


def test_variational_codes_are_drawn_in_training_only(drawn_labels, drawn_pictures):
    model, labels, picture = built(variational=True), drawn_labels(2), drawn_pictures(2)

    def value(seed=None):
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return model(picture, labels, picture, labels, generator=generator).codes.values["skin"]

    assert torch.equal(value(), value())
    model.train()
    assert torch.equal(value(1), value(1)) and not torch.equal(value(1), value(2))
    assert torch.equal(model.encode(picture, labels).values["skin"], model.encode(picture, labels).values["skin"])


def test_misuse_is_refused(drawn_labels, drawn_pictures):
    model, labels = built(), drawn_labels(1)
    with pytest.raises(ValueError, match=r"must be \(N, 3, 64, 64\)"):
        model.encode(drawn_pictures(1, side=128), drawn_labels(1, side=128))
    codes = model.encode(drawn_pictures(1), labels)
    with pytest.raises(ValueError, match=r"the code of eye_left must have shape \(2, 6\)"):
        model.generate(codes, drawn_pictures(2), drawn_labels(2))
    with pytest.raises(ValueError, match="unknown preset"):
        MaskGAN.from_preset("large")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 96}, "power of two"),
        ({"size": 32}, "power of two"),
        ({"code": (1, 2)}, "five lengths"),
        ({"code_grid": 3}, "power of two"),
        ({"code_grid": 4, "code": (6, 6, 44, 16, 16)}, "44 numbers cannot be spread over 45 cells"),
        ({"enlarge": 0.9}, "at least 1"),
        ({"background": "pasted", "background_blocks": 1}, "has no G_b"),
        ({"features": 2}, "at least 4"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**change)


def test_weights_come_back(tmp_path, drawn_labels, drawn_pictures):
    model, labels = built(), drawn_labels(1)
    model.save_pretrained(tmp_path / "weights")
    again = MaskGAN.from_pretrained(tmp_path / "weights")
    codes, other = model.encode(drawn_pictures(1), labels), again.encode(drawn_pictures(1), labels)
    assert all(torch.equal(value, other.values[name]) for name, value in codes.values.items())

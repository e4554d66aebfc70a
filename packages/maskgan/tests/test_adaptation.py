"""Pivotal tuning on drawn faces: it comes nearer, repeats, leaves the network alone, and may be left at any step."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from maskgan.adaptation import Adaptation, random_edit
from maskgan.cli import edit
from maskgan.editor import Editor
from retouch_common.faces.face import Face
from retouch_common.parsing.labels import write_labels

FACE = Face((110.0, 80.0, 60.0, 80.0), 1.0, np.full((5, 2), np.nan, np.float32))


@pytest.fixture(scope="module")
def editor(weights, parser_weights):
    return Editor(weights, parser=parser_weights, device="cpu", precision="fp32")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Untrained networks have far to go."""
    monkeypatch.setattr("maskgan.adaptation.LEARNING_RATE", 3e-3)


@pytest.fixture
def labels(drawn_labels):
    return drawn_labels(1)[0].numpy().astype(np.uint8)


@pytest.fixture
def photo():
    y, x = np.mgrid[:260, :340]
    values = 0.55 + 0.25 * np.sin(x[..., None] / 31 + y[..., None] / 47 + np.arange(3))
    return (255 * values.clip(0, 1)).astype(np.uint8)


@pytest.fixture
def portrait(editor, photo, labels):
    return editor.open(photo, face=FACE, labels=labels)


def test_the_face_comes_nearer_and_nothing_of_the_original_changes(editor, portrait):
    weights = {name: value.clone() for name, value in editor.model.state_dict().items()}
    codes, as_it_is = {name: value.clone() for name, value in portrait.codes.values.items()}, portrait.as_it_is.copy()
    adaptation = editor.adaptation(portrait, steps=60)
    errors = list(adaptation)
    assert len(errors) == len(adaptation) == 60 and errors[-1] < 0.5 * errors[0]
    adapted = editor.adapted(portrait, adaptation)
    before, after = (np.abs(p.as_it_is - p.image).mean() for p in (portrait, adapted))
    assert after < 0.6 * before
    assert all(torch.equal(value, weights[name]) for name, value in editor.model.state_dict().items())
    assert all(torch.equal(value, codes[name]) for name, value in portrait.codes.values.items())
    assert np.array_equal(portrait.as_it_is, as_it_is)
    assert not any(parameter.requires_grad for parameter in adapted.network.parameters())


def test_it_repeats(editor, portrait):
    first, second = (editor.adaptation(portrait, steps=4, seed=1) for _ in range(2))
    assert list(first) == list(second)
    other = editor.adaptation(portrait, steps=4, seed=2)
    assert list(other) != list(first)  # other masks hold the network


def test_encoders_stay_so_that_other_faces_lend_what_they_did(editor, portrait):
    adaptation = editor.adaptation(portrait, steps=3)
    list(adaptation)
    for name, value in adaptation.network.state_dict().items():
        same = torch.equal(value, editor.model.state_dict()[name])
        assert same == (".encoder." in name or ".picture_decoder." in name), name


def test_left_after_a_step_it_is_as_far_as_it_came(editor, portrait):
    adaptation = editor.adaptation(portrait, steps=20)
    for _ in adaptation:
        break
    adapted = editor.adapted(portrait, adaptation)
    assert np.isfinite(adapted.as_it_is).all() and not np.array_equal(adapted.as_it_is, portrait.as_it_is)


def test_the_untuned_network_holds_the_tuned_one_after_other_masks(editor, portrait, monkeypatch):
    """Without the regularisation what is drawn after another mask goes farther from what was drawn before."""
    labels = random_edit(portrait.labels, np.random.default_rng((0, 0x9107)))  # the first of the masks
    wanted = editor.render(portrait, labels, portrait.codes).finished
    away = {}
    for weight in (1.0, 0.0):
        monkeypatch.setattr("maskgan.adaptation.LOCALITY", weight)
        adaptation = editor.adaptation(portrait, steps=60)
        list(adaptation)
        adapted = editor.adapted(portrait, adaptation)
        away[weight] = np.abs(editor.render(adapted, labels, adapted.codes).image - wanted).mean()
    assert away[1.0] < 0.9 * away[0.0]


def test_every_step_is_regularised(editor, portrait, monkeypatch):
    adaptation, batches = editor.adaptation(portrait, steps=8), []
    losses = adaptation._losses
    monkeypatch.setattr(adaptation, "_losses", lambda samples: batches.append(samples) or losses(samples))
    list(adaptation)
    assert [len(samples) for samples in batches] == [2] * 8
    assert len({id(near) for _, near in batches}) == 6


def test_an_adapted_portrait_without_an_edit_is_the_photograph(editor, portrait, photo):
    adaptation = editor.adaptation(portrait, steps=2)
    list(adaptation)
    adapted = editor.adapted(portrait, adaptation)
    result = editor.render(adapted, adapted.labels, adapted.codes)
    np.testing.assert_array_equal(editor.paste(photo, adapted, result), photo)


def test_no_steps_are_refused(editor, portrait):
    with pytest.raises(ValueError, match="at least one step, not 0"):
        editor.adaptation(portrait, steps=0)


def test_painted_masks_keep_their_classes(labels):
    generator = np.random.default_rng(0)
    edits = [random_edit(labels, generator) for _ in range(6)]
    assert all(edited.dtype == np.uint8 and edited.shape == labels.shape for edited in edits)
    assert all((edited != labels).any() and set(np.unique(edited)) <= set(range(11)) for edited in edits)
    empty = np.zeros_like(labels)
    assert not random_edit(empty, generator).any()


def test_the_command_adapts(photo, labels, weights, parser_weights, tmp_path):
    import pyvips

    source, mask = tmp_path / "a.png", tmp_path / "mask.png"
    pyvips.Image.new_from_array(photo).write_to_file(str(source))
    painted = labels.copy()
    painted[painted == 10] = 1
    write_labels(mask, painted)
    shared = [str(source), "--mask", str(mask), "--weights", str(weights), "--parser", str(parser_weights),
              "--face-box", "110,80,60,80", "--device", "cpu"]  # fmt: skip
    for name, options in (("plain.png", []), ("adapted.png", ["--adapt", "5"])):
        result = CliRunner().invoke(edit, [*shared, "-o", str(tmp_path / name), *options])
        assert result.exit_code == 0, result.output
    plain, adapted = (pyvips.Image.new_from_file(str(tmp_path / n)).numpy() for n in ("plain.png", "adapted.png"))
    assert (plain != adapted).any() and (plain[:40] == adapted[:40]).all()
    assert CliRunner().invoke(edit, [*shared, "-o", str(tmp_path / "x.png"), "--adapt", "-1"]).exit_code == 2


def test_steps_are_counted_from_one(editor):
    with pytest.raises(ValueError, match="at least one step"):
        Adaptation(editor.model, None, [], None, steps=0)

"""Training: refusals, killed runs, both pairings, and that the networks learn."""

import shutil

import numpy as np
import pytest
import pyvips
import torch
from click.testing import CliRunner
from maskgan import train as module
from maskgan.cli import train as command
from maskgan.config import PRESETS, SETTING_1, SETTING_2
from maskgan.data import HAIR, MOUTH, open_faces
from maskgan.model import MaskGAN
from maskgan.train import FaceTask, train
from retouch_common.config import apply_overrides
from retouch_common.faces.alignment import points_in_square
from retouch_common.faces.face import Face
from retouch_common.faces.landmarks import portrait_square_of
from retouch_common.faces.mesh import (
    BROWS,
    EYES,
    INNER_LIPS,
    LANDMARKS_FILE,
    NOSE,
    NUM_POINTS,
    OUTER_LIPS,
    OVAL,
    landmarks_from_mesh,
    write_mesh_file,
)
from retouch_common.parsing.model import ParsingUNet
from retouch_common.parsing.parser import FaceParser
from retouch_common.testing.training_runs import assert_infinite_rate_is_survived
from retouch_common.training.fit import dry_run
from retouch_common.training.monitor import read_metrics
from retouch_common.training.runner import Runner


@pytest.fixture
def configured(parser_weights):
    def make(**changes):
        overrides = {
            "train.steps": 2,
            "train.batch_size": 2,
            "train.sheet_every": 2,
            "train.parser": str(parser_weights),
        }
        return apply_overrides(PRESETS["tiny"], overrides | {k.replace("__", "."): v for k, v in changes.items()})

    return make


def built(config, faces):
    """A task, ready for a step."""
    task = FaceTask(config, str(faces))
    task.setup(Runner(cpu=True))
    return task


def said(*arguments):
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_a_run_leaves_what_a_user_needs(configured, faces, tmp_path):
    out = tmp_path / "run"
    weights = train(configured(), str(faces), out, device="cpu", report=lambda line: None)
    lines = read_metrics(out / "metrics.jsonl")
    paired, unpaired = lines[0], lines[1]
    assert paired["step"] == 1 and {"local", "reconstruction", "feature_matching", "sigmoid", "parsing"} <= set(paired)
    assert {"local", "sigmoid", "parsing", "discriminator"} <= set(unpaired)
    assert not {"reconstruction", "feature_matching", "region"} & set(unpaired)
    figures = next(line for line in lines if "val_psnr" in line)
    assert 0 < figures["val_parsing"] < 1 and figures["val_psnr"] > 0 and figures["val_psnr_face"] > 0
    assert list((out / "sheets").glob("*.png"))
    assert MaskGAN.from_pretrained(weights).config == PRESETS["tiny"].model


def test_a_stopped_run_goes_on_as_if_nothing_had_happened(configured, faces, tmp_path):
    quiet = {"device": "cpu", "report": lambda line: None}
    whole = train(configured(train__steps=4, train__checkpoint_every=2), str(faces), tmp_path / "a", **quiet)
    train(configured(train__steps=2, train__checkpoint_every=2), str(faces), tmp_path / "b", **quiet)
    again = train(configured(train__steps=4, train__checkpoint_every=2), str(faces), tmp_path / "b", **quiet)
    first, second = (MaskGAN.from_pretrained(folder).state_dict() for folder in (whole, again))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_another_configuration_in_the_same_folder_is_refused(configured, faces, tmp_path):
    train(configured(), str(faces), tmp_path, device="cpu", report=lambda line: None)
    with pytest.raises(ValueError, match=r"loss\.local"):
        train(configured(loss__local=1.0), str(faces), tmp_path, device="cpu", report=lambda line: None)


def test_training_refuses_to_start_without_a_parser(faces, tmp_path):
    result = said("--preset", "tiny", "--set", "train.parser=nowhere", "--data", faces, "--out", tmp_path / "run")
    assert result.exit_code == 1 and "nowhere" in result.output and not (tmp_path / "run").exists()
    result = said("--preset", "tiny", "--set", "train.parser=''", "--data", faces, "--out", tmp_path / "run")
    assert result.exit_code == 1 and "needs a face parser" in result.output


def test_its_parser_labels_the_faces(configured, parser_weights, monkeypatch):
    def opened(spec, **options):
        raise ValueError(f"labelled by {options['parser']}")

    monkeypatch.setattr(module, "open_faces", opened)
    with pytest.raises(ValueError, match=f"labelled by {parser_weights}"):
        dry_run(FaceTask(configured(), "faces:portraits"), device="cpu")


def test_the_parser_is_frozen(configured, faces, tmp_path, parser_weights):
    """Its weights after training are its weights before, statistics of its normalisation included."""
    before = ParsingUNet.from_pretrained(parser_weights).state_dict()
    run = built(configured(), faces)
    batches = run.batches(0)
    for step in (1, 2):
        run.training_step(step, batches)
    after = run.parser.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    "changes",
    [
        SETTING_1,
        SETTING_2,
        {"loss.parsing": 0.0},
        {"train.pairing": "overlap", "model.discriminators": 2},
        {"loss.adversarial": 0.0},
        {"loss.adversarial": 0.0, "loss.parsing": 0.0, "train.pairing": "paired"},
        {"model.variational": True},
    ],
    ids=[
        "setting 1",
        "setting 2",
        "without parsing",
        "official schedule",
        "no adversary",
        "first stage",
        "variational",
    ],
)
def test_every_configuration_trains(configured, faces, changes):
    lines = []
    dry_run(FaceTask(apply_overrides(configured(), changes), str(faces)), device="cpu", report=lines.append)
    assert any(line.startswith("losses: ") for line in lines)


def test_every_situation_has_its_penalties_and_a_line_of_means(configured, faces, monkeypatch):
    """R1 in the third and fourth of four passes, of which each discriminator has two; both situations in one step."""
    monkeypatch.setattr(module, "R1_EVERY", 2)
    config = apply_overrides(configured(), {"model.discriminators": 2})
    run = built(config, faces)
    batches = run.batches(0)
    assert ["r1" in run.training_step(step, batches) for step in range(1, 5)] == [False, False, True, True]
    run = built(apply_overrides(config, {"train.pairing": "overlap"}), faces)
    given = {"paired": {"local": 1.0, "region": 5.0}, "unpaired": {"local": 3.0}}

    def update(step, batch, situation):
        losses = {name: torch.tensor(value) for name, value in given[situation].items()}
        return None, losses | {"loss": sum(losses.values())}

    run._update_generator, run._update_discriminators = update, lambda *_: {}
    means = run.training_step(1, run.batches(0))
    assert {name: float(value) for name, value in means.items()} == {"local": 2, "region": 5, "loss": 9}


def test_one_face_makes_no_unpaired_data(configured, faces):
    with pytest.raises(ValueError, match="less than two faces"):
        dry_run(FaceTask(configured(train__batch_size=1), str(faces)), device="cpu")


def test_faces_are_learnt(configured, faces, tmp_path):
    """Two faces after 60 steps: their components come back much nearer than at first, and whole faces nearer."""
    two = shutil.copytree(faces, tmp_path / "two")
    for file in (file for name in ("images", "labels") for file in (two / "train" / name).iterdir()):
        if file.stem not in ("0", "1"):
            file.unlink()
    changes = {
        "train.steps": 60,
        "train.batch_size": 2,
        "train.sheet_every": 60,
        "train.lr": 4e-3,
        "train.augment": False,
    }
    config = apply_overrides(configured(), changes | {"loss.adversarial": 0.0, "loss.parsing": 0.0})
    train(config, str(two), tmp_path / "run", device="cpu", report=lambda line: None)
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    for name, share in (("local", 0.4), ("reconstruction", 0.7)):
        values = [line[name] for line in lines if name in line]
        assert sum(values[-5:]) < share * sum(values[:5]), name


def test_the_paper_trains_without_augmentation(configured, faces):
    assert {name for name, preset in PRESETS.items() if not preset.train.augment} == {"paper", "official"}
    plain, varied = (built(configured(train__augment=augment, train__moved=0.0), faces) for augment in (False, True))
    as_it_is = open_faces(str(faces), size=64, split="train", seed=0)
    assert all(torch.equal(plain.data[index]["image"], as_it_is[index]["image"]) for index in range(6))
    assert not torch.equal(varied.data[0]["image"], as_it_is[0]["image"])


def test_data_are_the_same_for_the_same_index(faces):
    options = {"size": 64, "seed": 1}
    first, second = (open_faces(str(faces), split="train", augment=True, **options) for _ in range(2))
    assert len(first) == 6
    for index in (0, 7):
        a, b = first[index], second[index]
        assert torch.equal(a["image"], b["image"]) and torch.equal(a["labels"], b["labels"])
    assert not torch.equal(first[0]["image"], first[6]["image"])  # the same face, held otherwise
    plain = open_faces(str(faces), split="val", **options)
    sample = plain[0]
    assert sample["image"].shape == (3, 64, 64) and sample["image"].min() >= -1 and sample["image"].max() <= 1
    assert sample["labels"].dtype == torch.int64 and set(sample["labels"].unique().tolist()) == set(range(11))


def test_moved_sources_show_the_same_person_otherwise(faces):
    options = {"size": 64, "split": "train", "seed": 1, "augment": True}
    data = open_faces(str(faces), moved=1.0, **options)
    hidden = set()
    for index in range(12):
        sample = data[index]
        assert torch.equal(sample["image"], open_faces(str(faces), moved=1.0, **options)[index]["image"])
        assert not torch.equal(sample["source"], sample["image"])
        for label in (MOUTH, HAIR):
            if (sample["labels"] == label).any() and not (sample["source_labels"] == label).any():
                hidden.add(label)
        # its colours are those of the face: the same camera saw both
        skin, moved = (
            sample[name].movedim(0, -1)[sample[labels] == 1].mean(dim=0)
            for name, labels in (("image", "labels"), ("source", "source_labels"))
        )
        assert torch.allclose(skin, moved, atol=0.15)
    assert MOUTH in hidden
    same = open_faces(str(faces), moved=1e-9, **options)[0]
    assert torch.equal(same["source_labels"], same["labels"])
    assert "source" not in open_faces(str(faces), **options)[0]


def test_each_situation_has_its_source_and_its_target(configured, drawn_labels, drawn_pictures, faces):
    """Paired: the moved face before the face itself. Unpaired: the neighbour's, and its neck's colour alone changes."""
    run = FaceTask(configured(), str(faces))
    labels, image = drawn_labels(2), drawn_pictures(2)
    image[:, :, 58:, 20:44] = 0.4 * (labels == 1)[0].float().sum().clamp(max=1) + 0.2  # skin of the face, below it
    image = torch.where((labels == 1)[:, None], image.new_full((1, 3, 1, 1), 0.6), image)
    batch = {"image": image, "labels": labels, "source": image.flip(3), "source_labels": labels.flip(2)}
    source, source_labels, target = run._situated(batch, "paired")
    assert source is batch["source"] and source_labels is batch["source_labels"] and target is image
    batch["image"] = image = image * torch.tensor([1.0, 0.5]).view(2, 1, 1, 1)
    source, source_labels, target = run._situated(batch, "unpaired")
    assert torch.equal(source, image.roll(1, dims=0)) and torch.equal(source_labels, labels.roll(1, dims=0))
    changed = (target != image).any(dim=1)
    assert changed.any() and not changed[labels != 0].any()
    plain = FaceTask(configured(train__neck=False), str(faces))
    assert plain._situated(batch, "unpaired")[2] is image


def test_a_mesh_gives_the_parts_and_the_parser_the_hair(tmp_path, parser_weights, monkeypatch):
    points = drawn_mesh()
    (tmp_path / "set").mkdir()
    for number in range(2):  # the first one is for validation
        pyvips.Image.black(200, 200, bands=3).copy().write_to_file(str(tmp_path / "set" / f"{number}.png"))
    write_mesh_file(tmp_path / "set" / LANDMARKS_FILE, {f"{number}.png": points for number in range(2)})
    monkeypatch.setattr(FaceParser, "__call__", lambda self, face: np.full(face.shape[:2], HAIR, np.uint8))
    for name in ("maskgan.data", "retouch_common.parsing.portraits"):
        monkeypatch.setattr(f"{name}.default_cache", lambda: tmp_path / "cache" / "faces")
    found = open_faces(f"faces:{tmp_path / 'set'}", size=64, split="train", seed=0, parser=str(parser_weights))
    labels = found[0]["labels"]
    assert set(labels.unique().tolist()) == {2, 3, 4, 5, 6, 7, 8, 9, HAIR}  # no skin: the parser says hair over it
    square = portrait_square_of(landmarks_from_mesh(points))
    eye = points_in_square(points[list(EYES[0])].mean(axis=0, keepdims=True), square, 64)[0]
    rows, columns = torch.nonzero(labels == 4, as_tuple=True)
    assert abs(float(columns.float().mean()) - eye[0]) < 1 and abs(float(rows.float().mean()) - eye[1]) < 1


def drawn_mesh():
    """(468, 2) of a face of 60 by 80 pixels."""

    def ellipse(outline, x, y, across, down, start=np.pi):
        angle = start + np.linspace(0, 2 * np.pi, len(outline), endpoint=False)
        points[list(outline)] = np.stack([x + across * np.cos(angle), y + down * np.sin(angle)], axis=1)

    points = np.full((NUM_POINTS, 2), 100.0, np.float32)
    ellipse(OVAL, 100, 105, 30, 40, -np.pi / 2)
    for side, x in enumerate((87, 113)):
        ellipse(EYES[side], x, 95, 6, 3)
        ellipse(BROWS[side], x, 85, 8, 2)
    ellipse(NOSE, 100, 107, 6, 10)
    ellipse(OUTER_LIPS, 100, 128, 12, 6)
    ellipse(INNER_LIPS, 100, 128, 10, 2)
    return points


def test_portraits_without_templates_are_labelled_once(tmp_path, drawn_labels, parser_weights, monkeypatch):
    labels, parsed = np.pad(drawn_labels(1)[0].numpy().astype(np.uint8), 8), []

    def parse(self, face):
        parsed.append(face.shape)
        return labels

    def detect(levels):
        return [Face((20.0, 20.0, 40.0, 50.0), 1.0, np.full((5, 2), np.nan))] if levels.any() else []

    monkeypatch.setattr(FaceParser, "__call__", parse)
    monkeypatch.setattr("maskgan.data.detect_faces", detect)
    for name in ("maskgan.data", "retouch_common.parsing.portraits"):
        monkeypatch.setattr(f"{name}.default_cache", lambda: tmp_path / "cache" / "faces")
    (tmp_path / "set").mkdir()
    for number in range(4):  # the first one is for validation, the last one is black and shows nobody
        picture = pyvips.Image.black(90, 100, bands=3) + (60 * number if number < 3 else 0)
        picture.cast("uchar").write_to_file(str(tmp_path / "set" / f"{number}.png"))
    options = {"size": 64, "split": "train", "seed": 0}
    for _ in range(2):
        found = open_faces(f"faces:{tmp_path / 'set'}", parser=str(parser_weights), **options)
        assert len(found) == 2 and parsed == [(80, 80, 3)] * 2
    assert set(found[0]["labels"].unique().tolist()) == set(range(11))
    with pytest.raises(ValueError, match="no face in the split 'train'"):
        open_faces(f"faces:{tmp_path / 'set'}", parser=None, **options)


def test_dry_run_writes_nothing(faces, tmp_path, parser_weights):
    result = said("--preset", "tiny", "--set", f"train.parser={parser_weights}", "--data", faces,
                  "--out", tmp_path / "run", "--device", "cpu", "--dry-run")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "dry run: no run directory was written" in result.output and not (tmp_path / "run").exists()
    assert "data: 6 samples for training" in result.output


def test_an_infinite_learning_rate_leaves_no_broken_weights(faces, parser_weights, tmp_path):
    arguments = ["--preset", "tiny", "--data", faces, "--out", tmp_path / "run", "--set", "train.batch_size=2"]
    arguments += ["--set", f"train.parser={parser_weights}"]
    assert_infinite_rate_is_survived(command, arguments, tmp_path / "run")


def test_weights_of_another_configuration_are_refused_before_the_faces_are_opened(tmp_path):
    config = apply_overrides(PRESETS["tiny"], {"train.init": "small"})
    with pytest.raises(ValueError, match="another model configuration"):
        train(config, "faces:missing", tmp_path / "run", device="cpu")

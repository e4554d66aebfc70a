"""Samples: what is in them, from files and from simulated retouching."""

import shutil

import numpy as np
import pytest
import pyvips
import torch
import torch.nn.functional as F
from mofrr import data as data_module
from mofrr import portraits as module
from mofrr.config import PRESETS
from mofrr.data import NoImages, open_retouched_faces
from mofrr.degree import degree_edges
from mofrr.portraits import Portrait
from mofrr.stages import known_stages
from mofrr.traces import photo_traces
from retouch_common.config import apply_overrides
from retouch_common.faces.alignment import align, whole_square
from retouch_common.faces.landmarks import canonical_landmarks
from retouch_common.photo.io import Photo
from retouch_common.ranges import to_levels

OPERATIONS = ("white", "smooth", "lift", "eye")


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Sixteen grey pictures, whitened by 1 to 16 levels; four of them lifted as well."""
    folder = tmp_path_factory.mktemp("published")
    labels = []
    for number in range(16):
        for name, level in (("ori", 100), ("Whitening_30", 101 + number), ("multi", 120)):
            path = folder / name / "train" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pyvips.Image.new_from_array(np.full((64, 64, 3), level, np.uint8)).write_to_file(str(path))
        if number < 4:
            labels.append(f"{{'Whitening': 30, 'FaceLifting': 90}}\tmulti/train/{number}.png")
    (folder / "labels.txt").write_text("\n".join(labels))
    return str(folder)


@pytest.fixture
def portraits(tmp_path, monkeypatch):
    """Thirty people: a smooth, grainy face with its landmarks where an average face has them."""
    y, x = np.mgrid[:160, :160] / 160
    generator = np.random.default_rng(0)
    for person in range(30):
        levels = np.stack([210 - 60 * y, 160 - 40 * x, 130 + person + 0 * x], axis=-1)
        levels = (levels + generator.normal(0, 4, levels.shape)).astype(np.uint8)
        path = tmp_path / "set" / f"{person:02d}.png"
        path.parent.mkdir(exist_ok=True)
        pyvips.Image.new_from_array(levels).write_to_file(str(path))

    def open_portrait(path):
        levels = pyvips.Image.new_from_file(str(path)).numpy()
        landmarks = canonical_landmarks(128).mapped(lambda points: points + 16)
        skin = np.full((160, 160), 255, np.uint8)
        skin[:60] = 0  # the forehead is hair
        return Portrait(levels, landmarks, skin, landmarks.five_points.astype(np.float32))

    monkeypatch.setattr(module, "open_portrait", open_portrait)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return f"faces:{tmp_path / 'set'}"


def opened(spec, **options):
    return open_retouched_faces(spec, **({"size": 64, "split": "train", "seed": 0, "operations": OPERATIONS} | options))


@pytest.mark.parametrize("kind", ["singles", "single:white"])
def test_an_unknown_kind_is_refused(published, kind):
    with pytest.raises(ValueError, match="unknown kind of faces"):
        opened(published, kind=kind)


def test_a_copied_folder_is_not_searched_again(portraits, tmp_path, monkeypatch):
    entries = module.prepare_portraits(sorted((tmp_path / "set").iterdir()))
    shutil.copytree(tmp_path / "set", tmp_path / "copy", copy_function=shutil.copyfile)
    monkeypatch.setattr(module, "open_portrait", lambda path: pytest.fail("opened again"))
    assert module.prepare_portraits(sorted((tmp_path / "copy").iterdir())) == entries


def test_kinds_of_published_pictures(published):
    sizes = {
        kind: len(opened(published, kind=kind, operation="white")) for kind in ("mixed", "single", "multi", "clean")
    }
    assert sizes == {"mixed": 36, "single": 16, "multi": 4, "clean": 16}
    sample = opened(published, kind="multi")[0]
    assert sample["applied"].tolist() == [1, 0, 1, 0] and sample["degree"] == 0
    assert sample["retouched"].shape == (3, 64, 64) and float(sample["original"].mean()) == pytest.approx(100 / 255)
    with pytest.raises(NoImages, match="no single:eye images"):
        opened(published, kind="single", operation="eye")
    with pytest.raises(ValueError, match="styles can be chosen for faces:"):
        opened(published, styles=("rosy",))
    with pytest.raises(ValueError, match="APIs can be chosen for a folder laid out as RetouchingFFHQ only"):
        opened(f"faces:{published}", apis=("megvii",))


def test_degrees_are_quantiles_of_the_psnr(published):
    """Sixteen strengths: the lightest tenth is 1, the heaviest 15 % are 5."""
    faces = opened(published, kind="single", operation="white")
    assert faces[0]["degree"] == 0  # not known yet
    faces.degree_edges = faces.measured_edges()
    degrees = [int(faces[index]["degree"]) for index in range(16)]
    shift = [float((faces[i]["retouched"] - faces[i]["original"]).mean()) * 255 for i in range(16)]
    ranked = [degree for _, degree in sorted(zip(shift, degrees, strict=True))]
    assert ranked == sorted(ranked) and ranked[0] == 1 and ranked[-1] == 5
    assert [ranked.count(d) for d in range(1, 6)] in (
        [2, 4, 4, 4, 2],
        [1, 4, 4, 4, 3],
        [2, 4, 4, 3, 3],
        [1, 4, 4, 5, 2],
    )


def test_published_images_have_the_traces_that_restoring_sees(tmp_path):
    """Of the file at its own size, not of the image that was reduced for the network; mirrored with it."""
    generator = np.random.default_rng(0)
    for number in range(16):
        for name in ("ori", "Whitening_30"):
            path = tmp_path / name / "train" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = generator.integers(0, 256, (150, 150, 3), dtype=np.uint8)
            pyvips.Image.new_from_array(noise).write_to_file(str(path))
    faces, mirrored = opened(str(tmp_path)), set()
    for index in range(12):
        levels = Photo.open(faces.images[index % len(faces)].file).read()
        assert levels.shape[0] > 64
        expected = photo_traces(levels, whole_square(*levels.shape[:2]))
        plain = torch.equal(faces[index]["traces"], torch.from_numpy(expected))
        flipped = torch.equal(faces[index]["traces"], torch.from_numpy(expected[..., ::-1].copy()))
        assert plain != flipped and flipped == faces.pairs.is_mirrored(index)
        mirrored.add(flipped)
    assert mirrored == {True, False}


def test_degrees_are_measured_all_over_the_set(published, monkeypatch):
    faces = opened(published, kind="single", operation="white", split="all")
    monkeypatch.setattr(faces, "measured", 10)
    measured = [0, 1, 3, 4, 6, 8, 9, 11, 12, 14]
    expected = degree_edges([faces.pair(index).psnr for index in measured])
    assert faces.measured_edges() == pytest.approx(expected.tolist())


@pytest.mark.parametrize("stage", ["router", "expert-white"])
def test_stages_are_validated_on_training_people_that_they_do_not_train_on(portraits, stage):
    """Neither they nor the people of "val", on whom `mofrr-evaluate` measures, are trained on."""
    config = apply_overrides(PRESETS["tiny"], {"model.operations": list(OPERATIONS)})
    train, dev = known_stages(config)[stage].open_data(portraits)
    trained = {entry for faces in getattr(train, "of_operation", [train]) for entry in faces.entries}
    measured, validated = set(opened(portraits, split="val").entries), set(dev.entries)
    assert trained and validated and measured
    assert not validated & measured and not trained & (validated | measured)


def test_simulated_samples(portraits):
    faces = opened(portraits)
    assert [len(opened(portraits, split=name)) for name in ("train", "dev", "val")] == [25, 2, 3]
    sample, again = faces[3], faces[3]
    assert all(torch.equal(sample[name], again[name]) for name in sample)
    counts = {0: 0, 1: 0, 2: 0, 3: 0, 4: 0}
    for index in range(60):
        sample = faces[index]
        applied = int(sample["applied"].sum())
        counts[applied] += 1
        assert torch.equal(sample["retouched"], sample["original"]) <= (applied == 0)
        assert sample["retouched"].min() >= 0 and sample["retouched"].max() <= 1
        assert torch.equal((255 * sample["retouched"]).round() / 255, sample["retouched"])
    assert all(counts[n] for n in range(1, 5))


@pytest.mark.parametrize(("operation", "applied"), [("white", [1, 0, 0, 0]), ("smooth", [0, 1, 0, 0])])
def test_columns_of_applied_are_in_the_order_of_the_operations(portraits, operation, applied):
    assert (
        opened(portraits, kind="single", operation=operation, operations=("white", "smooth", "lift", "eye"))[0][
            "applied"
        ].tolist()
        == applied
    )


def test_simulated_kinds(portraits):
    for kind, allowed in (("single", {(0, 0, 0, 1)}), ("clean", {(0, 0, 0, 0)})):
        faces = opened(portraits, kind=kind, operation="eye")
        faces.degree_edges = None if kind == "clean" else [30.0, 35.0, 40.0, 45.0]
        assert {tuple(map(int, faces[index]["applied"])) for index in range(8)} == allowed
        assert all((1 <= faces[index]["degree"] <= 5) == (kind != "clean") for index in range(8))
    assert all(opened(portraits, kind="multi")[index]["applied"].sum() >= 2 for index in range(10))


def test_the_router_sees_the_faces_of_all_stages(portraits, published):
    """For training: mixed ones, and in turn those with a single operation; every sample once in an epoch."""
    faces, mixed = opened(portraits, kind="every"), opened(portraits)
    assert len(faces) == faces.different == 8 * len(mixed)
    assert all(torch.equal(faces[2 * index]["retouched"], mixed[index]["retouched"]) for index in range(3))
    for index, name in ((1, "white"), (3, "smooth"), (5, "lift"), (7, "eye"), (15, "eye")):
        sample, single = faces[index], opened(portraits, kind="single", operation=name)[index // 8]
        assert torch.equal(sample["retouched"], single["retouched"]) and sample["applied"].sum() == 1, name
    dev = opened(portraits, kind="every", split="dev")
    assert torch.equal(dev[1]["retouched"], opened(portraits, split="dev")[1]["retouched"])
    assert len(opened(str(published), kind="every")) == len(opened(str(published)))


def test_what_the_simulator_cannot_show_is_refused(portraits):
    lips = (*OPERATIONS, "lip_plumping")
    assert len(opened(portraits, operations=lips)) == 25
    with pytest.raises(NoImages, match="lip_plumping cannot be simulated"):
        opened(portraits, operations=lips, kind="single", operation="lip_plumping")
    for kind in ("mixed", "multi"):
        with pytest.raises(NoImages, match=f"{kind} faces also show lift, smooth"):
            opened(portraits, operations=("white", "eye"), kind=kind)


def test_a_style_can_be_left_out(portraits):
    with pytest.raises(ValueError, match="unknown style 'vivid'"):
        opened(portraits, styles=("vivid",))
    one, other = (
        opened(portraits, styles=(style,), kind="single", operation="white") for style in ("porcelain", "rosy")
    )
    assert not torch.equal(one[0]["retouched"], other[0]["retouched"])


def test_the_expert_of_everything_sees_what_was_applied(portraits):
    for kind, applied in (("clean", 0.0), ("multi", 1.0)):
        faces = opened(portraits, operations=("all",), kind=kind)
        assert all(float(faces[index]["applied"]) == applied for index in range(3))


def test_samples_are_made_once(portraits, monkeypatch):
    faces = opened(portraits, split="dev")
    first = faces[1]
    monkeypatch.setattr(data_module, "retouch_face", lambda *_, **__: pytest.fail("made again"))
    again = opened(portraits, split="dev")[1]
    assert all(torch.equal(first[name], again[name]) for name in first)
    monkeypatch.undo()
    monkeypatch.setattr(data_module, "default_cache", lambda: faces._folder.with_name("faces"))
    for length in (1000, 0):  # a truncated file is made again, as power failures leave them
        for file in faces._folder.iterdir():
            file.write_bytes(file.read_bytes()[:length])
        assert all(torch.equal(first[name], faces[1][name]) for name in first)


def test_what_is_measured_on_has_no_history(portraits):
    """An untouched face of "val" is the photograph framed, and nothing else."""
    faces = opened(portraits, split="val", kind="clean")
    portrait = module.load_portrait(faces.entries[0])
    expected = to_levels(align(portrait.levels, portrait.square, 64))
    assert np.array_equal(np.rint(255 * faces.pair(0).retouched.permute(1, 2, 0).numpy()), expected)


def test_nothing_away_from_the_face_tells_whether_it_was_retouched(portraits):
    """What precedes and follows an operation does not depend on it: without it, the same sample has the same corners.

    No classifier of what resampling leaves can then tell touched from untouched samples where nobody retouched.
    """
    kinds = {
        kind: opened(portraits, kind=kind, operation="lift", styles=("porcelain",)) for kind in ("clean", "single")
    }
    for index in range(10):
        clean, lifted = (faces[index] for faces in kinds.values())
        assert torch.equal(lifted["original"], clean["original"]) and not torch.equal(
            lifted["retouched"], lifted["original"]
        )
        for corner in (slice(0, 5), slice(-5, None)):
            assert torch.equal(lifted["traces"][:, :5, corner], clean["traces"][:, :5, corner])


SAMPLES = 120  # of each class; half of them are learnt from
CHANCE = 0.5 + 3 * 0.5 / SAMPLES**0.5  # three standard deviations of the share of right guesses


def told_apart(touched, untouched):
    """Share of samples that a logistic regression assigns to the right class, from traces of processing alone.

    It sees how strong differences between neighbouring pixels are in the upper corners of the square, where no
    operation acts: how far from the mean of all samples, and to which side.
    """
    rows = [faces[index]["traces"][:, :5] for faces in (touched, untouched) for index in range(SAMPLES)]
    means = torch.stack([torch.cat([row[..., :5], row[..., -5:]], dim=2).mean(dim=(1, 2)) for row in rows])
    known = torch.arange(2 * SAMPLES) % 2 == 0
    features = (means - means[known].mean(0)) / means[known].std(0).clamp(min=1e-6)
    features = torch.cat([features, features.abs()], dim=1)
    answers = (torch.arange(2 * SAMPLES) < SAMPLES).float()
    weights, bias = torch.zeros(features.shape[1], requires_grad=True), torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=100)

    def loss():
        optimizer.zero_grad()
        logits = features[known] @ weights + bias
        value = F.binary_cross_entropy_with_logits(logits, answers[known]) + 0.01 * weights.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    guesses = (features[~known] @ weights + bias).detach() > 0
    return float((guesses == (answers[~known] > 0)).float().mean())


def test_processing_does_not_tell_whether_a_photograph_was_retouched(portraits, monkeypatch):
    """A router that learnt resampling, noise or compression would be wrong on other photographs."""
    monkeypatch.setattr(data_module, "photographed", lambda image, side, generator: (image, 1.0))
    monkeypatch.setattr(data_module, "KEPT_SINGLE", SAMPLES)
    touched = opened(portraits, kind="multi", seed=1)
    assert told_apart(touched, opened(portraits, kind="clean", seed=2)) < CHANCE
    # with a history on one side only, the same classifier tells them apart
    monkeypatch.setattr(data_module.History, "random", lambda generator, side: data_module.History())
    assert told_apart(touched, opened(portraits, kind="clean", seed=3)) > 0.68


def test_images_that_equal_their_originals_have_no_degree(published, monkeypatch):
    faces = opened(published, kind="single", operation="white", split="all")
    edges = faces.measured_edges()
    monkeypatch.setattr(data_module.Pair, "psnr", property(lambda pair: 100.0))
    with pytest.raises(ValueError, match="at least five"):
        faces.measured_edges()
    assert max(edges) < 100


def test_the_first_images_of_a_folder_are_of_all_operations(published):
    """Metrics, calibration and evaluation take the first ones; in path order those would be of one operation."""
    faces = opened(published, split="all")
    first = {operation for image in faces.images[: len(faces) // 2] for operation in image.magnitudes}
    assert first == {operation for image in faces.images for operation in image.magnitudes}


def test_what_is_measured_is_never_the_same_twice(portraits):
    """Of three people there are as many different faces as are asked for."""
    faces = opened(portraits, split="val", kind="single", operation="white")
    assert len({faces[index]["retouched"].numpy().tobytes() for index in range(3 * len(faces))}) == 3 * len(faces)

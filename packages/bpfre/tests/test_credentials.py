"""``bpfre-retouch --sign`` and ``bpfre-inpaint --sign``."""

import pytest
from bpfre.cli import inpaint, retouch
from retouch_common.testing.credentials_contract import CredentialsContract


class TestRetouch(CredentialsContract):
    package, command = "bpfre", retouch

    @pytest.fixture
    def options(self, weights):
        return ["--weights", weights, "--no-confine"]


@pytest.fixture(params=[("--strokes", "1"), ()], ids=["drawn", "in the photo"])
def strokes(request):
    return request.param


class TestInpaint(CredentialsContract):
    package, command = "bpfre", inpaint

    @pytest.fixture
    def options(self, busy_model, tmp_path, strokes):
        model = busy_model()
        model.metadata = {"task": "inpainting"}
        model.save_pretrained(tmp_path / "weights")
        return ["--weights", tmp_path / "weights", *strokes]

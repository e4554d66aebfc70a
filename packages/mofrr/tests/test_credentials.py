"""``mofrr-restore --sign``."""

import pytest
from mofrr.cli import restore
from retouch_common.testing.credentials_contract import CredentialsContract


class TestCredentials(CredentialsContract):
    package, command = "mofrr", restore

    @pytest.fixture
    def options(self, weights):
        return ["--weights", weights, "--experts", "eye"]

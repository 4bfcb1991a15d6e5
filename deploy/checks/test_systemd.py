"""The systemd unit is valid, and gives the service few rights."""

import re
import shutil
import tempfile
import unittest
from pathlib import Path

from project import DEPLOY, environment_names, known_variables, read, run

UNIT = DEPLOY / "systemd" / "tollgate.service"
# systemd calls 10 unsafe and 0 safe.
WORST_EXPOSURE = 3.0


class Unit(unittest.TestCase):
    def test_its_exposure_is_low(self):
        code, text = run("systemd-analyze", "security", "--offline=true", "--no-pager", UNIT)
        self.assertEqual(code, 0, text)
        exposure = float(re.search(r"exposure level for tollgate.service: ([\d.]+)", text).group(1))
        self.assertLess(exposure, WORST_EXPOSURE, text)

    def test_systemd_understands_every_line(self):
        with tempfile.TemporaryDirectory() as folder:
            # The program is not installed here, and `verify` asks for one that can be run.
            program = shutil.which("true")
            unit = Path(folder) / UNIT.name
            unit.write_text(UNIT.read_text().replace("/usr/local/bin/tollgate", program))
            self.assertEqual(run("systemd-analyze", "verify", "--man=no", unit), (0, ""))

    def test_its_settings_exist(self):
        variables = environment_names(read("deploy/systemd/tollgate.env"))
        self.assertIn("TOLLGATE_ADMIN_TOKEN", variables)
        self.assertLessEqual(variables, known_variables())

    def test_it_waits_longer_for_the_end_than_draining_takes(self):
        stop = int(re.search(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.MULTILINE).group(1))
        self.assertGreater(stop, 8)

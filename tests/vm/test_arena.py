"""The attacks themselves, on a router that judges nothing: what the other tests forbid does arrive here."""
import pathlib
import tempfile
import unittest

from attacks import ATTACKS
from harness.netns import TARGET
from harness.target import Target
from harness.world import why_not
from vmlab.arena import Arena
from vmlab.kinds import KINDS
from vmlab.machine import Machine
from vmlab.world import BRIDGES, NETWORK, VmTopology, plug

# Linux drops the first itself; the second depends on who is quicker.
_UNSURE = {"data without ACK", "nobody waits for the handshake"}
_DNAT = """
nft -f - <<'RULES'
table inet demo {
    chain entry { type nat hook prerouting priority dstnat; iifname eth0 tcp dport 40001 dnat ip to 44.10.0.81:443; }
    chain exit { type nat hook postrouting priority srcnat; ct status dnat oifname eth0 masquerade; }
}
RULES
"""


class Dnat(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if reason := why_not():
            raise unittest.SkipTest(reason)
        cls.topology = VmTopology()
        cls.addClassCleanup(cls.topology.remove)
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.machine = Machine(KINDS["x86_64"], cls.topology.node, BRIDGES, pathlib.Path(directory.name) / "console.log", 256, start=NETWORK, tools=True)
        cls.addClassCleanup(cls.machine.stop)
        cls.machine.start(prepare=lambda: plug(cls.topology))
        cls.machine.ok(_DNAT)
        cls.target = Target(cls.topology.inet, (TARGET, 443), answer=lambda c, d: None)
        cls.addClassCleanup(cls.target.close)
        cls.arena = Arena(cls.topology, cls.target)
        cls.addClassCleanup(cls.arena.close)

    def test_every_control_arrives_whole_and_every_attack_would_pass(self):
        for attack in ATTACKS:
            with self.subTest(attack=attack.name):
                self.assertIn(self.arena.control(attack, 40001), (True, None))
                if attack.name not in _UNSURE:
                    self.assertNotEqual(self.arena.forbidden(attack, 40001), b"")

"""Images are made once, however many want them at the same time."""
import pathlib
import tempfile
import threading
import time
import unittest

from vmlab import image


class Made(unittest.TestCase):
    def test_who_comes_while_an_image_is_made_waits_and_takes_it(self):
        with tempfile.TemporaryDirectory() as directory:
            place, made, found = pathlib.Path(directory) / "cache" / "kind", [], []

            def make():
                made.append(1)
                time.sleep(0.2)
                (place / "kernel").write_text("whole", encoding="ascii")

            def want():
                image._made(place, "wanted", make)
                found.append((place / "kernel").read_text(encoding="ascii"))

            threads = [threading.Thread(target=want) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(10)
            self.assertEqual((len(made), found), (1, ["whole"] * 3))
            image._made(place, "something else", make)
            self.assertEqual(len(made), 2)

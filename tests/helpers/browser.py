"""Headless Chromium, driven over a pipe by its DevTools protocol; nothing but Python is needed."""

import base64
import fcntl
import json
import os
import shutil
import subprocess

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip
KEYS = {
    "Enter": (13, "\r"), "Tab": (9, ""), "Escape": (27, ""), "ArrowDown": (40, ""), "ArrowUp": (38, "")
}  # fmt: skip


class Browser:
    """One page of a browser of its own, with what it says on its console."""

    def __init__(self, profile):
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()

        def connect():
            """In the browser's process: commands come in by 3, answers go out by 4."""
            ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (theirs_in, theirs_out)]
            for end, number in zip(ends, (3, 4), strict=True):
                os.dup2(end, number)

        self.process = subprocess.Popen(
            [CHROMIUM, *FLAGS, f"--user-data-dir={profile}"], preexec_fn=connect, pass_fds=(3, 4),
            stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self.answers, self.commands = os.fdopen(ours_in, "rb"), os.fdopen(ours_out, "wb")
        self.number, self.session, self.console, self.events, self.rest = 0, None, [], [], b""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.terminate()
        self.process.wait(timeout=60)
        self.commands.close()
        self.answers.close()

    def ask(self, method, **parameters):
        """Send a command, and return what it gives."""
        self.number += 1
        session = {"sessionId": self.session} if self.session else {}
        message = {"id": self.number, "method": method, "params": parameters} | session
        self.commands.write(json.dumps(message).encode() + b"\0")
        self.commands.flush()
        while (answer := self.read()).get("id") != self.number:
            self.hear(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def read(self):
        while b"\0" not in self.rest:
            part = self.answers.read1(2**20)
            if not part:
                raise RuntimeError("the browser has gone")
            self.rest += part
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def hear(self, event):
        """Keep what is said on the console, and which events there were."""
        method = event.get("method", "")
        self.events.append(method)
        if method in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
            self.console.append(json.dumps(event["params"])[:500])

    def open(self, file, *, width=1280, height=900, dark=False):
        """Open a file, and wait until it has loaded."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 700}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        wanted = {
            "prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce"
        }  # fmt: skip
        features = [{"name": name, "value": value} for name, value in wanted.items()]
        self.ask("Emulation.setEmulatedMedia", features=features)
        self.load("Page.navigate", url=file.as_uri())

    def reload(self):
        """Load the same address again."""
        self.load("Page.reload")

    def load(self, method, **parameters):
        """Send a command that loads a page, and wait until it has loaded."""
        self.events.clear()
        self.ask(method, **parameters)
        while "Page.loadEventFired" not in self.events:
            self.hear(self.read())

    def run(self, script):
        """Value of an expression in the page."""
        done = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in done:
            raise RuntimeError(json.dumps(done["exceptionDetails"])[:500])
        return done["result"].get("value")

    def press(self, key):
        """Press a key, as a person does."""
        code, text = KEYS[key]
        about = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.ask("Input.dispatchKeyEvent", type="keyDown", text=text, **about)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **about)

    def write(self, text):
        """Write into what has the focus."""
        self.ask("Input.insertText", text=text)

    def click(self, selector):
        """Press the middle of an element with the mouse."""
        box = self.run(f"""(() => {{
            const one = document.querySelector({selector!r});
            one.scrollIntoView({{ block: "center", behavior: "instant" }});
            const box = one.getBoundingClientRect();
            return [box.x + box.width / 2, box.y + box.height / 2];
        }})()""")
        for kind in ("mousePressed", "mouseReleased"):
            self.ask(
                "Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1
            )

    def printed(self):
        """The page as a PDF of sheets of A4."""
        sheet = {"paperWidth": 8.27, "paperHeight": 11.69}
        return base64.b64decode(self.ask("Page.printToPDF", **sheet)["data"])

    def picture(self):
        """What is to be seen, as a PNG."""
        return base64.b64decode(self.ask("Page.captureScreenshot")["data"])

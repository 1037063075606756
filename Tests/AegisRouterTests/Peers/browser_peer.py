"""A real browser without scripts, driven over its debugging protocol, that looks at a page which is not there yet.

    browser_peer.py URL GO [PICTURE]   opens URL and must see the loading page, of which it takes a picture; makes the file GO,
                                       for the server behind it to begin; and must get to the real page without being
                                       asked again. Prints "ok", or fails
"""

import asyncio
import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

import websockets

OPTIONS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-crash-reporter", "--disable-dev-shm-usage", "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--blink-settings=scriptEnabled=false",
    "--remote-debugging-port=0",
]
DEADLINE = 80


def page_of(browser, profile):
    """The address of the first page's debugging socket, once the browser has said where it listens."""
    says = os.path.join(profile, "DevToolsActivePort")
    end = time.monotonic() + DEADLINE
    while not (os.path.exists(says) and open(says).read().count("\n")):
        assert browser.poll() is None and time.monotonic() < end, "the browser did not start"
        time.sleep(0.02)
    port = open(says).read().split("\n")[0]
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open("http://127.0.0.1:%s/json/list" % port) as answer:
        return next(page for page in json.load(answer) if page["type"] == "page")["webSocketDebuggerUrl"]


async def look(address, url, go, picture):
    async with websockets.connect(address, max_size=1 << 26) as debugger:
        count = 0
        events = asyncio.Queue()

        async def call(method, **parameters):
            nonlocal count
            count += 1
            await debugger.send(json.dumps({"id": count, "method": method, "params": parameters}))
            while True:
                message = json.loads(await debugger.recv())
                if message.get("id") == count:
                    return message.get("result")
                events.put_nowait(message)

        async def loaded():
            while True:
                message = events.get_nowait() if not events.empty() else json.loads(await debugger.recv())
                if message.get("method") == "Page.loadEventFired":
                    return

        await call("Page.enable")
        await call("Page.navigate", url=url)
        waited = False
        while True:
            await loaded()
            # It may be on its way to the next page again.
            root = await call("DOM.getDocument", depth=0)
            text = root and await call("DOM.getOuterHTML", nodeId=root["root"]["nodeId"])
            if not text:
                continue
            page = text["outerHTML"]
            if "This page reloads itself." in page:
                waited = True
                if picture and not os.path.exists(picture):
                    shot = await call("Page.captureScreenshot")
                    open(picture, "wb").write(base64.b64decode(shot["data"]))
                open(go, "w").close()
            elif "hello" in page:
                frame = (await call("Page.getFrameTree"))["frameTree"]["frame"]
                assert waited, "the loading page was not seen"
                assert frame["url"] == url, frame["url"]
                return
            else:
                # The empty page that the browser began with.
                assert "<body></body>" in page, page


def main():
    url, go = sys.argv[1], sys.argv[2]
    profile = tempfile.mkdtemp()
    browser = subprocess.Popen(
        [os.environ.get("CHROMIUM", "/usr/bin/chromium")] + OPTIONS + ["--user-data-dir=" + profile, "about:blank"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env={"PATH": os.environ["PATH"], "HOME": profile, "LANG": "C.UTF-8"})
    try:
        picture = sys.argv[3] if len(sys.argv) > 3 else None
        asyncio.run(asyncio.wait_for(look(page_of(browser, profile), url, go, picture), DEADLINE))
        print("ok")
    finally:
        # Its processes are all of its own group.
        os.killpg(browser.pid, signal.SIGKILL)
        browser.wait()
        for _ in range(100):
            shutil.rmtree(profile, ignore_errors=True)
            if not os.path.exists(profile):
                break
            time.sleep(0.05)


main()

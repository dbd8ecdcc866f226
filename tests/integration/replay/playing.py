"""An upstream that answers with recordings, byte for byte."""

from collections.abc import Mapping

from tests.integration.replay.recordings import Recording
from tests.support.scripted_upstream import LAST_CHUNK, Received, Script, ScriptedUpstream

PIECES = 5
_HEADERS = ("content-type", "retry-after", "x-ratelimit")


class Replaying(ScriptedUpstream):
    """Answers with the recording that the request's model is named after."""

    def __init__(self, recordings: Mapping[str, Recording]) -> None:
        super().__init__()
        self._recordings = recordings

    def script_for(self, received: Received) -> Script:
        return _script(self._recordings[received.body["model"]])


def _script(recording: Recording) -> Script:
    """The recording in some pieces, cut anywhere."""
    kind = "text/event-stream" if recording.is_stream else "application/json"
    kept = {name: value for name, value in recording.headers.items() if name.startswith(_HEADERS)}
    headers = {"content-type": kind, **kept, "connection": "close", "transfer-encoding": "chunked"}
    head = [
        f"HTTP/1.1 {recording.status} Recorded",
        *(f"{name}: {value}" for name, value in headers.items()),
        "",
        "",
    ]
    size = len(recording.body) // PIECES + 1
    pieces = [recording.body[at : at + size] for at in range(0, len(recording.body), size)]
    return Script(
        "\r\n".join(head).encode("latin1"),
        [*(b"%x\r\n%b\r\n" % (len(each), each) for each in pieces), LAST_CHUNK],
    )

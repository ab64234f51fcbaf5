"""A program: LSL outlets for tests, in a process of their own.

Arguments: session, seconds, streams as JSON: name, channels, rate, format, and maybe source_id and, last,
what is said of the channels, such as `{"label": [...], "unit": [...]}`; then channel c is 1000 c ahead.
"""

from __future__ import annotations

import json
import sys
import time


def settings(session: str) -> str:
    """Only this machine, only this test."""
    return f"[lab]\nSessionID={session}\n[multicast]\nResolveScope=machine\n[log]\nlevel=-3\n"


def main() -> None:
    import numpy as np
    import pylsl

    session, seconds, streams = sys.argv[1], float(sys.argv[2]), json.loads(sys.argv[3])
    pylsl.set_config_content(settings(session))
    outlets = []
    for name, channels, rate, kind, *who in streams:
        said = who.pop() if who and isinstance(who[-1], dict) else {}
        info = pylsl.StreamInfo(name, "test", channels, rate, kind, who[0] if who else f"{session}-{name}")
        if said:
            described = info.desc().append_child("channels")
            for i in range(channels):
                channel = described.append_child("channel")
                for word in said:
                    channel.append_child_value(word, said[word][i])
        outlets.append((pylsl.StreamOutlet(info), channels, rate, kind, [0], 1000 if said else 0))
    begin = pylsl.local_clock()
    print("ready", flush=True)
    while (now := pylsl.local_clock()) < begin + seconds:
        for outlet, channels, rate, kind, sent, apart in outlets:
            due = int((now - begin) * rate)
            if due > sent[0] and kind != "string":
                k = np.arange(sent[0], due)
                rows = (k[:, None] + apart * np.arange(channels)).astype(np.float32)
                outlet.push_chunk(rows, begin + (due - 1) / rate)
                sent[0] = due
        time.sleep(0.005)


if __name__ == "__main__":
    main()

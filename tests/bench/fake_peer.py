"""A peer that only speaks the protocol: python fake_peer.py HOW. What it claims to have measured is made up."""

import json
import os
import sys
import time

how = sys.argv[1]
for line in sys.stdin:
    message = json.loads(line)
    reply = {}
    if message["do"] == "load":
        reply = {"missing": "nothing_like_it"} if how == "missing" else {"title": f"Fake ({message['threads']})"}
    elif message["do"] == "tune":
        reply = {"setting": {"threads": 2}, "tried": [{"setting": {"threads": 2}, "seconds": 1.0}]}
        if how == "fails for two" and len(message["prompts"]) == 2:
            reply = {"error": "ValueError: two is too many"}
    elif message["do"] == "generate":
        if how == "dies":
            print("out of luck", file=sys.stderr)
            os._exit(3)
        if how == "hangs":
            time.sleep(60)
        count = message["max_tokens"] - (how == "stops early")
        prompts = message["prompts"]
        reply = {
            "token_ids": [[sum(prompt) % 7] * count for prompt in prompts],
            "arrivals": [[1.0 + 0.5 * done for done in range(count)] for _ in prompts],
        }
    print("what?" if how == "babbles" else json.dumps(reply), flush=True)

"""The Python side of `python_peer.rs`, which starts it: asks, and prints what it is answered.

Needs nothing but Python 3.8 or later. With those before 3.12 the other side has to use `AuthMode::PythonMd5`.
"""

import sys
from multiprocessing.connection import Client

key = sys.stdin.readline().strip().encode()
with Client(sys.argv[1], authkey=key) as pool:
    for question in [("fib", 24), ("collatz", 837799), ("crash", 0), ("fly", 1), ("fib", 10)]:
        pool.send(question)
        answer = pool.recv()
        print(*question, "->", answer.get("value", answer.get("error")), flush=True)

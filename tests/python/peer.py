"""The other end of a connection, in a Python program: `peer.py ROLE ADDRESS`, the key on standard input.

A listener says where it is. What goes wrong is said by the name of its exception.
"""

import os
import socket
import struct
import sys
from multiprocessing.connection import Client, Listener


def say(text):
    print(text, flush=True)


def parse(text):
    if "/" in text:
        return text
    host, port = text.rsplit(":", 1)
    return host, int(port)


def listen(address, key):
    listener = Listener(address, authkey=key)
    found = listener.address
    say(found if isinstance(found, str) else "%s:%s" % found)
    return listener.accept()


def raw(address):
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    connection = socket.socket(family)
    connection.connect(address)
    return connection


def echo_bytes(connection):
    try:
        while True:
            connection.send_bytes(connection.recv_bytes())
    except EOFError:
        say("end")


def echo_objects(connection):
    try:
        while True:
            value = connection.recv()
            say(repr(value))
            connection.send(value)
    except EOFError:
        say("end")


def other_objects(connection):
    connection.send(os.system)
    connection.send({1, 2})
    connection.send([object(), 1])
    connection.send("plain")
    say(connection.recv())


def half_a_message(connection):
    os.write(connection.fileno(), struct.pack("!i", 1000) + b"half")
    os._exit(0)


def main(role, address):
    key = sys.stdin.readline().strip().encode() or None
    address = parse(address)
    how, what = role.split("-", 1)
    if role == "connect-vanish":
        raw(address).recv(4)
        os._exit(0)
    connection = listen(address, key) if how == "listen" else Client(address, authkey=key)
    with connection:
        {
            "bytes": echo_bytes,
            "objects": echo_objects,
            "others": other_objects,
            "half": half_a_message,
        }[what](connection)


try:
    main(*sys.argv[1:])
except Exception as error:
    say(type(error).__name__)

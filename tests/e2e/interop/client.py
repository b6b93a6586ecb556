"""A Python client as interop.rs drives it: KIND NAME TRANSPORT PORT VERSION FILTER on the command line.

It subscribes to FILTER and says `ready`, then one line for each message. On its input come
`publish TOPIC QOS HEX`, which it answers by `published`, and `end`.
"""

import asyncio
import queue
import sys
import threading

KIND, NAME, TRANSPORT, PORT, VERSION, FILTER = sys.argv[1:]
PORT = int(PORT)
HOST = "127.0.0.1"
PATH = "/mqtt"
DEADLINE = 20


def say(*words):
    # In one piece: other threads of the client say something too.
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def say_message(topic, qos, retain, payload):
    say("message", topic, qos, int(retain), bytes(payload).hex())


def commands():
    """What is asked for, until the end."""
    for line in sys.stdin:
        word, *rest = line.rstrip("\n").split(" ")
        if word == "end":
            return
        topic, qos, payload = rest
        yield topic, int(qos), bytes.fromhex(payload)


def paho():
    import paho.mqtt.client as mqtt

    version = {"3.1.1": mqtt.MQTTv311, "5": mqtt.MQTTv5}[VERSION]
    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2,
        client_id=NAME,
        protocol=version,
        transport={"tcp": "tcp", "ws": "websockets"}[TRANSPORT],
    )
    if TRANSPORT == "ws":
        client.ws_set_options(path=PATH)
    published = queue.Queue()
    client.on_connect = lambda c, u, flags, code, p: c.subscribe(FILTER, 2)
    client.on_subscribe = lambda c, u, mid, codes, p: say("ready")
    client.on_message = lambda c, u, m: say_message(m.topic, m.qos, m.retain, m.payload)
    client.on_publish = lambda c, u, mid, code, p: published.put(mid)
    client.connect(HOST, PORT)
    client.loop_start()
    for topic, qos, payload in commands():
        client.publish(topic, payload, qos)
        published.get(timeout=DEADLINE)
        say("published")
    client.disconnect()
    client.loop_stop()


async def async_commands():
    """The same beside a loop."""
    loop, found = asyncio.get_running_loop(), asyncio.Queue()

    def read():
        for command in commands():
            loop.call_soon_threadsafe(found.put_nowait, command)
        loop.call_soon_threadsafe(found.put_nowait, None)

    threading.Thread(target=read, daemon=True).start()
    while (command := await found.get()) is not None:
        yield command


async def aiomqtt():
    import aiomqtt

    version = {"3.1.1": aiomqtt.ProtocolVersion.V311, "5": aiomqtt.ProtocolVersion.V5}[VERSION]
    async with aiomqtt.Client(HOST, PORT, identifier=NAME, protocol=version) as client:

        async def listen():
            async for m in client.messages:
                say_message(m.topic.value, m.qos, m.retain, m.payload)

        listening = asyncio.create_task(listen())
        await client.subscribe(FILTER, qos=2)
        say("ready")
        async for topic, qos, payload in async_commands():
            await client.publish(topic, payload, qos)
            say("published")
        listening.cancel()


async def gmqtt():
    import gmqtt
    from gmqtt.mqtt.constants import MQTTv311, MQTTv50

    client = gmqtt.Client(NAME)

    def on_message(client, topic, payload, qos, properties):
        say_message(topic, qos, properties["retain"], payload)
        return 0

    client.on_message = on_message
    client.on_connect = lambda c, flags, code, properties: c.subscribe(FILTER, qos=2)
    client.on_subscribe = lambda c, mid, codes, properties: say("ready")
    await client.connect(HOST, PORT, version={"3.1.1": MQTTv311, "5": MQTTv50}[VERSION])
    async for topic, qos, payload in async_commands():
        client.publish(topic, payload, qos=qos)
        # Where it keeps what is not acknowledged: it has no event for that.
        await asyncio.wait_for(client._persistent_storage.wait_empty(), DEADLINE)
        say("published")
    await client.disconnect()


if KIND == "paho":
    paho()
else:
    asyncio.run({"aiomqtt": aiomqtt, "gmqtt": gmqtt}[KIND]())
say("done")

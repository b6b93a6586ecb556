"""What paho-mqtt sees of the broker: called by real_clients.rs with a port, a case and its arguments.

Each case checks for itself and ends with `done`; anything else is a failure.
"""

import hashlib
import hmac
import json
import queue
import sys
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PORT = int(sys.argv[1])
VERSIONS = [mqtt.MQTTv311, mqtt.MQTTv5]
DEADLINE = 20


class Client:
    """A client whose callbacks end in queues."""

    def __init__(self, version, client_id, login=None, clean=True, expiry=0):
        self.version, self.clean, self.expiry = version, clean, expiry
        options = {} if version == mqtt.MQTTv5 else {"clean_session": clean}
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=client_id, protocol=version, **options
        )
        if login:
            self.client.username_pw_set(*login)
        self.connected, self.messages = queue.Queue(), queue.Queue()
        self.subscribed, self.published = queue.Queue(), queue.Queue()
        self.client.on_connect = lambda c, u, flags, code, p: self.connected.put((code, flags.session_present))
        self.client.on_message = lambda c, u, message: self.messages.put(message)
        self.client.on_subscribe = lambda c, u, mid, codes, p: self.subscribed.put(codes)
        self.client.on_publish = lambda c, u, mid, code, p: self.published.put(code)
        # One try each: a refused client must not come back by itself.
        self.client.on_connect_fail = lambda c, u: self.connected.put((None, False))

    def connect(self):
        options = {}
        if self.version == mqtt.MQTTv5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = self.expiry
            options = {"clean_start": self.clean, "properties": properties}
        self.client.connect("127.0.0.1", PORT, **options)
        self.client.loop_start()
        return self.connected.get(timeout=DEADLINE)

    def open(self):
        code, present = self.connect()
        assert not code.is_failure, code
        return present

    def subscribe(self, topic, qos):
        self.client.subscribe(topic, qos)
        return self.subscribed.get(timeout=DEADLINE)[0]

    def publish(self, topic, payload, qos, retain=False):
        self.client.publish(topic, payload, qos, retain)
        return self.published.get(timeout=DEADLINE)

    def message(self):
        return self.messages.get(timeout=DEADLINE)

    def quiet(self):
        """Nothing came up to now: the answer to a SUBSCRIBE stands behind it."""
        self.subscribe("open/quiet", 0)
        assert self.messages.empty(), self.messages.get().payload

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


def roundtrip():
    for version in VERSIONS:
        subscriber, publisher = Client(version, f"s{version}"), Client(version, f"p{version}")
        subscriber.open(), publisher.open()
        for qos in range(3):
            topic = f"paho/{version}/{qos}/{time.time_ns()}"
            granted = subscriber.subscribe(topic, qos)
            assert not granted.is_failure and granted.value == qos, granted
            for number in range(20):
                assert not publisher.publish(topic, f"{number}", qos).is_failure
            for number in range(20):
                message = subscriber.message()
                assert (message.payload, message.qos) == (f"{number}".encode(), qos), message
            publisher.publish(topic, "kept", qos, retain=True)
            assert not subscriber.message().retain
            late = Client(version, f"l{version}")
            late.open()
            late.subscribe(topic, 2)
            message = late.message()
            assert message.retain and message.payload == b"kept" and message.qos == qos
            late.close()
        subscriber.close(), publisher.close()


def resume():
    for version in VERSIONS:
        # One QoS at a time: paho hands a QoS 2 message over at its PUBREL, behind later QoS 1 ones.
        for qos in [1, 2]:
            topic, name = f"resume/{version}/{time.time_ns()}", f"away{version}{qos}"
            away = Client(version, name, clean=False, expiry=100)
            away.open()
            away.subscribe(topic, 2)
            away.close()
            publisher = Client(version, f"rp{version}")
            publisher.open()
            for number in range(30):
                publisher.publish(topic, f"{number}", qos)
            back = Client(version, name, clean=False, expiry=100)
            assert back.open(), "the session is there"
            for number in range(30):
                payload = back.message().payload
                assert payload == f"{number}".encode(), (number, payload)
            back.close(), publisher.close()


def access():
    for version in VERSIONS:
        alice = Client(version, f"a{version}", ("alice", "alice-password"))
        alice.open()
        assert not alice.subscribe("open/#", 2).is_failure
        assert alice.subscribe("closed/#", 2).is_failure
        for qos in range(3):
            code = alice.publish("closed/x", "x", qos)
            assert code.is_failure == (version == mqtt.MQTTv5 and qos > 0), (qos, code)
        alice.publish("open/x", "allowed", 2)
        assert alice.message().payload == b"allowed"
        alice.quiet()
        for login in [("alice", "wrong"), ("nobody", "x"), None]:
            refused = Client(version, f"r{version}", login)
            code, _ = refused.connect()
            assert code.is_failure, (login, code)
            refused.close()
        alice.close()


def plugins(key):
    for version in VERSIONS:
        name = f"device{version}"
        text = f"{name}.{int(time.time()) + 600}"
        token = text + "." + hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()
        device = Client(version, name, ("device", token))
        device.open()
        assert not device.subscribe(f"devices/{name}/#", 2).is_failure
        assert device.subscribe("devices/other/#", 2).is_failure
        for qos in range(3):
            device.publish(f"devices/{name}/state", json.dumps({"value": qos}), qos)
            stamped = json.loads(device.message().payload)
            assert stamped["value"] == qos and stamped["client_id"] == name, stamped
            assert abs(stamped["received_at"] / 1000 - time.time()) < 60, stamped
        device.publish(f"devices/{name}/state", "no JSON", 1)
        device.publish("devices/other/state", "{}", 1)
        device.publish(f"devices/{name}/state", "{}", 1)
        assert b"client_id" in device.message().payload
        forged = Client(version, name + "x", ("device", token))
        code, _ = forged.connect()
        assert code.is_failure, code
        forged.close(), device.close()


{"roundtrip": roundtrip, "resume": resume, "access": access, "plugins": plugins}[sys.argv[2]](
    *sys.argv[3:]
)
print("done")

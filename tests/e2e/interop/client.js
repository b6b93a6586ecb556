// MQTT.js as interop.rs drives it: NAME URL VERSION FILTER CA FILE on the command line; the rest
// as in client.py.
const fs = require("fs");
const readline = require("readline");
const mqtt = require("mqtt");

const [name, url, version, filter, ca] = process.argv.slice(1);

const client = mqtt.connect(url, {
  clientId: name,
  protocolVersion: { "3.1.1": 4, 5: 5 }[version],
  reconnectPeriod: 0,
  ca: fs.readFileSync(ca), // of no use without TLS
});

function fail(error) {
  console.error(`${name}: ${error}`);
  process.exit(1);
}

client.on("error", fail);
client.on("message", (topic, payload, packet) => {
  console.log(`message ${topic} ${packet.qos} ${Number(packet.retain)} ${payload.toString("hex")}`);
});
client.subscribe(filter, { qos: 2 }, (error) => (error ? fail(error) : console.log("ready")));
readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const [word, topic, qos, payload] = line.split(" ");
  if (word === "end") {
    client.end(false, {}, () => console.log("done"));
  } else {
    client.publish(topic, Buffer.from(payload, "hex"), { qos: Number(qos) }, (error) =>
      error ? fail(error) : console.log("published"),
    );
  }
});
process.stdin.on("end", () => client.end());

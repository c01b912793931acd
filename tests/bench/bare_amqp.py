"""The least that so many durable messages cost: published in one stream, consumed with prefetch and
acknowledged a hundred at a time. `bare_amqp.py HOST:PORT USER PASSWORD VHOST COUNT`."""

import sys

import amqp

address, user, password, vhost, count = sys.argv[1:]
count = int(count)
connection = amqp.Connection(host=address, userid=user, password=password, virtual_host=vhost)
connection.connect()
channel = connection.channel()
channel.queue_declare("bare", durable=True, auto_delete=False)
for number in range(count):
    message = amqp.Message('{"how": "ok", "n": %d}' % number, delivery_mode=2)
    channel.basic_publish(message, routing_key="bare")

seen = 0


def take(message):
    global seen
    seen += 1
    if seen % 100 == 0 or seen == count:
        channel.basic_ack(message.delivery_tag, multiple=True)


channel.basic_qos(0, 500, False)
tag = channel.basic_consume("bare", callback=take)
while seen < count:
    connection.drain_events()
channel.basic_cancel(tag)
channel.queue_delete("bare")
connection.close()

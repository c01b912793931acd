"""A producer and consumer as old applications have them, on other people's client libraries.

client.py URI put QUEUE     each line of standard input is a JSON string: a payload's text
client.py URI get QUEUE N   prints up to N payloads' texts, each as a JSON string
client.py URI count QUEUE   prints how many wait
"""

import hashlib
import json
import os
import sys
import time
from urllib.parse import urlsplit


class PgSql:
    """A connection for each operation, under the lock of the queue."""

    def __init__(self, uri):
        self.uri = uri.replace("pgsql:", "postgresql:", 1)

    def _run(self, queue, *statements):
        import psycopg2

        digest = hashlib.sha1(queue.encode("utf-8")).digest()
        lock = (1234567890, int.from_bytes(digest[:4], "big", signed=True))
        connection = psycopg2.connect(self.uri)
        connection.autocommit = True
        connection.set_client_encoding("UTF8")
        rows = []
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s, %s)", lock)
            for sql, arguments in statements:
                if rows:
                    arguments = (rows[0][0],)
                cursor.execute(sql, arguments)
                if cursor.description:
                    rows = cursor.fetchall()
                if not rows:
                    break
            cursor.execute("SELECT pg_advisory_unlock(%s, %s)", lock)
        connection.close()
        return rows

    def put(self, queue, text):
        insert = "INSERT INTO asynctask.asynctask_queue (queue_name, payload) VALUES (%s, %s)"
        self._run(queue, (insert, (queue, text)))

    def get(self, queue):
        select = (
            "SELECT id, payload FROM asynctask.asynctask_queue"
            " WHERE queue_name = %s ORDER BY id LIMIT 1"
        )
        delete = "DELETE FROM asynctask.asynctask_queue WHERE id = %s"
        rows = self._run(queue, (select, (queue,)), (delete, ()))
        return json.dumps(rows[0][1]) if rows else None

    def count(self, queue):
        select = "SELECT count(*) FROM asynctask.asynctask_queue WHERE queue_name = %s"
        return self._run(queue, (select, (queue,)))[0][0]


class Redis:
    def __init__(self, uri):
        import redis

        self.client = redis.Redis.from_url(uri)

    def put(self, queue, text):
        self.client.rpush("asynctask_" + queue, text)

    def get(self, queue):
        text = self.client.lpop("asynctask_" + queue)
        return None if text is None else text.decode("utf-8")

    def count(self, queue):
        return self.client.llen("asynctask_" + queue)


class Amqp:
    def __init__(self, uri):
        from kombu import Connection

        self.connection = Connection(uri)

    def put(self, queue, text):
        with self.connection.SimpleQueue(queue) as queue:
            queue.put(text)

    def get(self, queue):
        with self.connection.SimpleQueue(queue, no_ack=True) as queue:
            try:
                message = queue.get(block=False)
            except queue.Empty:
                return None
        assert (message.content_type, message.content_encoding) == ("text/plain", "utf-8")
        assert message.properties["delivery_mode"] == 2
        return message.payload

    def count(self, queue):
        with self.connection.SimpleQueue(queue) as queue:
            return queue.qsize()


    def nibble(self, queue):
        """Gets one after the other, with a breath between, until there are none."""
        channel = self.connection.channel()
        while channel.basic_get(queue, no_ack=True):
            time.sleep(0.002)


class FileSys:
    """Reads and writes as the original does, its overwriting without truncation included."""

    def __init__(self, uri):
        self.root = uri.split(":", 1)[1]

    def _locked(self, queue):
        from filelock import FileLock

        self.folder = os.path.join(self.root, queue)
        os.makedirs(self.folder, 0o700, exist_ok=True)
        return FileLock(os.path.join(self.folder, ".lock"))

    def _write(self, name, text):
        fd = os.open(os.path.join(self.folder, name), os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(fd, "r+") as file:
            file.write(text)

    def _index(self):
        try:
            with open(os.path.join(self.folder, ".index")) as file:
                start, end = file.read().split(",")
                return int(start), int(end)
        except FileNotFoundError:
            return 0, 0

    def put(self, queue, text):
        with self._locked(queue):
            start, end = self._index()
            start, end = start or 1, end + 1
            self._write(str(end), json.dumps({"payload": json.loads(text)}))
            self._write(".index", "%d,%d" % (start, end))

    def get(self, queue):
        with self._locked(queue):
            start, end = self._index()
            if end == 0:
                return None
            name = os.path.join(self.folder, str(start))
            with open(name) as file:
                payload = json.load(file)["payload"]
            os.unlink(name)
            start += 1
            if start > end:
                start = end = 0
            self._write(".index", "%d,%d" % (start, end))
            return json.dumps(payload)

    def count(self, queue):
        with self._locked(queue):
            start, end = self._index()
            return 0 if end == 0 else end - start + 1


def main(uri, action, queue, limit="0"):
    kinds = {"pgsql": PgSql, "redis": Redis, "amqp": Amqp, "filesys": FileSys}
    client = kinds[urlsplit(uri).scheme](uri)
    if action == "put":
        for line in sys.stdin:
            client.put(queue, json.loads(line))
    elif action == "get":
        for _ in range(int(limit)):
            text = client.get(queue)
            if text is None:
                break
            print(json.dumps(text))
    elif action == "nibble":
        client.nibble(queue)
    else:
        print(client.count(queue))


main(*sys.argv[1:])

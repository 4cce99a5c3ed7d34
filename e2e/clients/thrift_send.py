"""Sends the lines of a file to a thrift source with the Python library of Apache Thrift.

usage: thrift_send.py HOST PORT compact|binary FILE BATCH [CA.pem]

A batch of one goes out as append, a larger one as appendBatch. Every answer but OK,
and every broken connection, makes it send the batch again on a new connection, for a
minute at most. Prints "sent N" as it goes, and "done N retries R" at the end.
"""
import ssl
import sys
import time

from thrift.protocol import TBinaryProtocol, TCompactProtocol
from thrift.Thrift import TApplicationException, TMessageType, TType
from thrift.transport import TSocket, TSSLSocket, TTransport

host, port, protocol, path, size = sys.argv[1:6]
ca = sys.argv[6] if len(sys.argv) > 6 else None
OK = 0


def connect():
    if ca:
        context = ssl.create_default_context(cafile=ca)
        context.check_hostname = False
        socket = TSSLSocket.TSSLSocket(host, int(port), ssl_context=context)
    else:
        socket = TSocket.TSocket(host, int(port))
    socket.setTimeout(20000)
    transport = TTransport.TFramedTransport(socket)
    transport.open()
    kind = TCompactProtocol.TCompactProtocol if protocol == "compact" else TBinaryProtocol.TBinaryProtocol
    return transport, kind(transport)


def write_event(p, body, n):
    p.writeStructBegin("ThriftFlumeEvent")
    p.writeFieldBegin("headers", TType.MAP, 1)
    headers = {"client": "python", "n": str(n)}
    p.writeMapBegin(TType.STRING, TType.STRING, len(headers))
    for k, v in headers.items():
        p.writeString(k)
        p.writeString(v)
    p.writeMapEnd()
    p.writeFieldEnd()
    p.writeFieldBegin("body", TType.STRING, 2)
    p.writeBinary(body)
    p.writeFieldEnd()
    p.writeFieldStop()
    p.writeStructEnd()


def call(p, seq, first, batch):
    name = "append" if len(batch) == 1 else "appendBatch"
    p.writeMessageBegin(name, TMessageType.CALL, seq)
    p.writeStructBegin(name + "_args")
    if len(batch) == 1:
        p.writeFieldBegin("event", TType.STRUCT, 1)
        write_event(p, batch[0], first)
    else:
        p.writeFieldBegin("events", TType.LIST, 1)
        p.writeListBegin(TType.STRUCT, len(batch))
        for i, body in enumerate(batch):
            write_event(p, body, first + i)
        p.writeListEnd()
    p.writeFieldEnd()
    p.writeFieldStop()
    p.writeStructEnd()
    p.writeMessageEnd()
    p.trans.flush()

    _, kind, answered = p.readMessageBegin()[0:3]
    if kind == TMessageType.EXCEPTION:
        x = TApplicationException()
        x.read(p)
        p.readMessageEnd()
        raise x
    if answered != seq:
        raise ValueError("answer %d to request %d" % (answered, seq))
    status = None
    p.readStructBegin()
    while True:
        _, kind, field = p.readFieldBegin()
        if kind == TType.STOP:
            break
        if field == 0 and kind == TType.I32:
            status = p.readI32()
        else:
            p.skip(kind)
        p.readFieldEnd()
    p.readStructEnd()
    p.readMessageEnd()
    return status


with open(path, "rb") as f:
    lines = f.read().splitlines()
sent = retries = seq = 0
p = transport = None
since = time.monotonic()
while sent < len(lines):
    batch = lines[sent:sent + int(size)]
    try:
        if p is None:
            transport, p = connect()
        seq += 1
        if call(p, seq, sent, batch) != OK:
            raise IOError("not OK")
    except Exception as e:
        if time.monotonic() - since > 60:
            raise
        print("again: %s" % e, file=sys.stderr)
        retries += 1
        if transport is not None:
            transport.close()
        p = transport = None
        time.sleep(0.2)  # the other end comes back
        continue
    sent += len(batch)
    since = time.monotonic()
    print("sent %d" % sent, flush=True)
print("done %d retries %d" % (sent, retries), flush=True)
transport.close()

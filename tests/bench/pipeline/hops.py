"""Hops of the event chain, read from its topics.

A hop is the time from the publication of a fact to the publication of the fact that it led to, by the timestamps that the
producers gave them (one machine, one clock): the wait for the broker's acknowledgement, transport, waiting for a free
consumer, and the handler with all that it stores.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

_CHAIN = ("stage-planned", "examples-selected", "rationales-collected")


def hops_by_run(port: int) -> Mapping[str, Sequence[float]]:
    """Return each run's hops in ms, of facts whose cause is in the chain as well. port: the broker's, on the loopback."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(
        bootstrap_servers=f"127.0.0.1:{port}", auto_offset_reset="earliest", enable_auto_commit=False
    )
    partitions = [
        TopicPartition(topic, partition)
        for topic in (f"baldistill.{name}.v1" for name in _CHAIN)
        for partition in consumer.partitions_for_topic(topic) or ()
    ]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    ends = consumer.end_offsets(partitions)
    published: dict[str, int] = {}
    caused: dict[str, tuple[str, str]] = {}
    while any(consumer.position(partition) < end for partition, end in ends.items()):
        for records in consumer.poll(timeout_ms=1000).values():
            for record in records:
                headers = {name: value.decode() for name, value in record.headers}
                published.setdefault(headers["ce_id"], record.timestamp)
                if "ce_causationid" in headers:
                    caused.setdefault(headers["ce_id"], (record.key.decode(), headers["ce_causationid"]))
    consumer.close()
    hops: defaultdict[str, list[float]] = defaultdict(list)
    for effect, (run_id, cause) in caused.items():
        if cause in published:
            hops[run_id].append(float(published[effect] - published[cause]))
    return hops

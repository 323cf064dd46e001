"""Claims, generations and names under several threads, on every database there is."""

from __future__ import annotations

import threading

import pytest

from tests.api.placement.world import Placement, code, new
from tests.databases import KINDS, database_url


@pytest.fixture(params=KINDS)
def shared(request, tmp_path):
    with database_url(request.param, tmp_path) as url:
        made = Placement(db_url=url)
        yield made
        made.client.close()


def at_once(*works):
    """Run functions in threads that start together; their results, exceptions included."""
    barrier = threading.Barrier(len(works))
    results = [None] * len(works)

    def run(index, work):
        barrier.wait()
        try:
            results[index] = work()
        except BaseException as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def test_claims_never_pass_the_capacity(shared):
    hosts = [shared.provider(f"host{n}", VCPU=5, MEMORY_MB=100) for n in range(2)]

    def claim_some():
        won = 0
        for n in range(6):
            amounts = {"VCPU": 1, "MEMORY_MB": 10}
            wanted = {hosts[n % 2]: amounts, hosts[(n + 1) % 2]: amounts} if n % 3 == 0 else {hosts[n % 2]: amounts}
            answer = shared("PUT", f"/allocations/{new()}", shared.body(None, wanted))
            assert answer.status in {204, 409}, answer.text
            won += len(wanted) if answer.status == 204 else 0
        return won

    won = at_once(*[claim_some] * 6)
    assert sum(won) == sum(shared.used(host)["VCPU"] for host in hosts) <= 10
    for host in hosts:
        held = shared("GET", f"/resource_providers/{host}/allocations").json["allocations"]
        assert sum(entry["resources"]["VCPU"] for entry in held.values()) == shared.used(host)["VCPU"]
        assert shared.used(host)["MEMORY_MB"] == 10 * shared.used(host)["VCPU"]
    assert shared.used(hosts[0])["VCPU"] == 5 or shared.used(hosts[1])["VCPU"] == 5


def test_one_of_many_writers_of_a_new_consumer_wins(shared):
    host, consumer = shared.provider("host", VCPU=100), new()
    answers = at_once(*[lambda: shared("PUT", f"/allocations/{consumer}", shared.body(None, {host: {"VCPU": 1}}))] * 6)
    assert sorted(answer.status for answer in answers) == [204] + [409] * 5
    assert {code(answer) for answer in answers if answer.status == 409} == {"placement.concurrent_update"}
    assert shared.used(host) == {"VCPU": 1}


def test_callers_without_generations_all_get_through(shared):
    host, consumer = shared.provider("host", VCPU=100), new()

    def write(amount):
        body = {"allocations": {host: {"resources": {"VCPU": amount}}}, "project_id": "p", "user_id": "u"}
        return lambda: shared("PUT", f"/allocations/{consumer}", body, v="1.12")

    answers = at_once(*[write(amount) for amount in range(1, 5)])
    assert [answer.status for answer in answers] == [204] * 4
    assert shared.used(host)["VCPU"] in {1, 2, 3, 4}


def test_an_inventory_is_not_removed_under_a_claim(shared):
    host = shared.provider("host", VCPU=10)
    for _ in range(5):
        consumer = new()
        answers = at_once(
            lambda: shared("PUT", f"/allocations/{consumer}", shared.body(None, {host: {"VCPU": 1}})),
            lambda: shared("DELETE", f"/resource_providers/{host}/inventories"),
        )
        statuses = [answer.status for answer in answers]
        assert statuses in ([204, 409], [409, 204]), [answer.text for answer in answers]
        if statuses[0] == 204:
            shared("DELETE", f"/allocations/{consumer}", ok=204)
        else:
            shared.put(host, "inventories", {"inventories": {"VCPU": {"total": 10}}})


def test_generations_let_one_change_through(shared):
    host = shared.provider("host", VCPU=1)
    body = {"resource_provider_generation": shared.generation(host), "inventories": {"VCPU": {"total": 2}}}
    answers = at_once(*[lambda: shared("PUT", f"/resource_providers/{host}/inventories", body)] * 4)
    assert sorted(answer.status for answer in answers) == [200, 409, 409, 409]


def test_a_name_is_given_once(shared):
    answers = at_once(*[lambda: shared("POST", "/resource_providers", {"name": "host"})] * 4)
    assert sorted(answer.status for answer in answers) == [200, 409, 409, 409]
    made = at_once(*[lambda: shared("PUT", "/traits/CUSTOM_X")] * 4)
    assert sorted(answer.status for answer in made) == [201, 204, 204, 204]


def test_a_trait_is_not_deleted_while_it_is_given_to_a_provider(shared):
    for n in range(5):
        shared("PUT", "/traits/CUSTOM_X", ok=201)
        host = shared.provider(f"host{n}")
        body = {"resource_provider_generation": shared.generation(host), "traits": ["CUSTOM_X"]}
        given, deleted = at_once(
            lambda: shared("PUT", f"/resource_providers/{host}/traits", body),
            lambda: shared("DELETE", "/traits/CUSTOM_X"),
        )
        assert (given.status, deleted.status) in {(200, 409), (400, 204)}
        shared("DELETE", f"/resource_providers/{host}", ok=204)
        shared("DELETE", "/traits/CUSTOM_X")


def test_two_processes_see_each_others_changes(shared):
    other = Placement(db_url=shared.service.db.url.render_as_string(hide_password=False))
    host = shared.provider("host", VCPU=4)
    assert other.candidates("resources=VCPU:4") == [{host: {"VCPU": 4}}]
    shared.claim(new(), {host: {"VCPU": 1}})
    assert other.candidates("resources=VCPU:4") == []
    other("DELETE", f"/resource_providers/{host}/traits", ok=204)
    shared.put(host, "traits", {"traits": ["HW_NUMA_ROOT"]})
    assert other.candidates("resources=VCPU:1&required=HW_NUMA_ROOT") == [{host: {"VCPU": 1}}]
    other.client.close()

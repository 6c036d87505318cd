"""How long requests wait before they are sent again, and how many may be under way while servers are full."""

from __future__ import annotations

import random
import time

import pytest

from sapiens_client.servers.failures import Failure
from sapiens_client.servers.pace import AWAY_PAUSE_S, FULL_PAUSE_S, LEAST_S, Pace, Turn, pause_s, watch_s


def test_the_time_left_bounds_every_pause():
    for num_before in range(30):
        assert 0 <= pause_s(num_before, 1e9) <= AWAY_PAUSE_S == 5
        assert 0 <= pause_s(num_before, 1e9, FULL_PAUSE_S) <= FULL_PAUSE_S == 1
        assert 0 <= pause_s(num_before, 0.5) <= 0.5 - LEAST_S
        assert pause_s(num_before, -1.0) == watch_s(-1.0) == 0
        assert watch_s(2.0) == 1
    assert max(pause_s(0, 60) for _ in range(100)) <= 0.05
    assert max(pause_s(20, 60) for _ in range(100)) > 1


def in_s(seconds: float) -> float:
    """A deadline."""
    return time.monotonic() + seconds


def lined_up(pace: Pace, number: int) -> list[Turn]:
    return [pace.line_up(in_s(60)) for _ in range(number)]


def begun(turns: list[Turn]) -> list[bool]:
    return [turn.has_begun for turn in turns]


def answer(pace: Pace, turn: Turn) -> None:
    pace.answered(turn)
    pace.give_back(turn)


def refuse(pace: Pace, turn: Turn, num_servers: int = 1) -> None:
    pace.refused(turn, None, num_servers)
    pace.give_back(turn)
    pace.awake(turn)


def test_a_burst_of_refusals_slows_down_once_and_answers_speed_up_again():
    pace = Pace()
    turns = lined_up(pace, 10)
    assert all(begun(turns))
    for turn in turns[:3]:
        refuse(pace, turn)
    assert pace.limit == pytest.approx(7)
    for turn in turns[3:]:
        answer(pace, turn)
    assert 8 < pace.limit < 9


def test_a_burst_leaves_no_more_than_were_taken():
    pace = Pace()
    for turn in lined_up(pace, 200)[68:]:
        refuse(pace, turn)
    assert pace.limit == 68


def test_those_sent_again_within_the_same_round_trip_do_not_slow_down_further():
    pace = Pace()
    *taken, one, two, three = lined_up(pace, 10)
    for turn in (one, two, three):
        refuse(pace, turn)
    for turn in taken[:6]:
        answer(pace, turn)
        before = pace.limit
        refuse(pace, *lined_up(pace, 1))
        assert pace.limit == before > 7
    answer(pace, taken[6])
    refuse(pace, *lined_up(pace, 1))
    assert pace.limit == 1


def test_a_slow_request_does_not_make_a_round_trip_longer_than_that_of_others():
    pace = Pace()
    _slow, *turns = lined_up(pace, 100)
    for turn in turns[-10:]:
        refuse(pace, turn)
    for turn in turns[:-10]:
        answer(pace, turn)
    first, second, *_ = lined_up(pace, 50)
    answer(pace, first)
    refuse(pace, second)
    assert pace.limit == pytest.approx(0.7 * 50)


def test_while_there_is_no_room_at_all_one_asks_at_a_time_and_sleeps_in_between():
    pace = Pace()
    while pace.limit > 1:
        refuse(pace, *lined_up(pace, 1))
    (asleep,) = lined_up(pace, 1)
    pace.refused(asleep, None, 1)
    pace.give_back(asleep)
    others = lined_up(pace, 3)
    assert begun(others) == [False] * 3
    pace.awake(asleep)
    assert begun(others) == [True, False, False]
    pace.answered(others[0])
    assert begun(others) == [True, True, False]


def test_the_longer_there_is_no_room_the_longer_everybody_sleeps():
    pace = Pace()
    for number in range(5):
        assert pace.num_in_vain == number
        refuse(pace, *lined_up(pace, 1))
    answer(pace, *lined_up(pace, 1))
    assert pace.num_in_vain == 0


def test_where_there_is_no_room_at_all_one_is_left_for_each_server():
    pace = Pace()
    for _ in range(30):
        for turn in lined_up(pace, 200):
            if turn.has_begun:
                refuse(pace, turn, num_servers=3)
            else:
                pace.give_back(turn)
    assert pace.limit == 3


def test_room_for_many_is_found_within_a_few_rounds():
    pace = Pace()
    for _ in range(30):
        refuse(pace, *lined_up(pace, 1))
    assert pace.limit == 1
    for _ in range(10):
        for turn in lined_up(pace, int(pace.limit)):
            answer(pace, turn)
    assert pace.limit > 64


def test_the_limit_stays_near_the_room_that_there_is():
    pace, rng, room = Pace(), random.Random(0), 64
    waiting, accepted, limits, num_refused = lined_up(pace, 200), [], [], 0
    for number in range(20_000):
        for turn in [turn for turn in waiting if turn.has_begun]:
            waiting.remove(turn)
            if len(accepted) < room:
                accepted.append(turn)
            else:
                num_refused += 1
                refuse(pace, turn)
                waiting += lined_up(pace, 1)
        answer(pace, accepted.pop(0 if rng.random() < 0.9 else -1))
        waiting += lined_up(pace, 1)
        limits.append(pace.limit)
        if number == 2_000:
            num_refused = 0
    assert min(limits) > room / 2
    assert max(limits[2_000:]) < 2 * room
    assert num_refused < 0.1 * 18_000


def test_those_whose_deadline_is_next_come_first_and_who_left_is_forgotten():
    pace = Pace()
    (first,) = lined_up(pace, 1)
    refuse(pace, first)
    (first,) = lined_up(pace, 1)
    late, soon, gone = (pace.line_up(in_s(seconds)) for seconds in (30, 20, 10))
    pace.give_back(gone)
    assert begun([first, late, soon]) == [True, False, False]
    pace.give_back(first)
    assert begun([late, soon]) == [False, True]
    pace.give_back(soon)
    assert begun([late]) == [True]


def test_who_has_no_time_left_gets_no_turn_that_another_could_use():
    pace = Pace()
    (first,) = lined_up(pace, 1)
    refuse(pace, first)
    (first,) = lined_up(pace, 1)
    hopeless = [pace.line_up(in_s(seconds)) for seconds in (-1, 0, LEAST_S / 2)]
    (patient,) = lined_up(pace, 1)
    pace.give_back(first)
    assert begun([*hopeless, patient]) == [False, False, False, True]
    for turn in hopeless:
        pace.give_back(turn)
    pace.give_back(patient)
    assert begun(lined_up(pace, 2)) == [True, False]


def test_who_has_little_time_gets_a_turn_at_once_where_there_is_room():
    assert Pace().line_up(in_s(LEAST_S / 2)).has_begun


def test_a_refusal_is_forgotten_once_a_request_is_answered_that_began_after_it():
    pace, refusal = Pace(), Failure(None, None, None)
    before, refused = lined_up(pace, 2)
    pace.refused(refused, refusal, 1)
    pace.give_back(refused)
    pace.awake(refused)
    answer(pace, before)
    assert pace.refusal is refusal
    answer(pace, *lined_up(pace, 1))
    assert pace.refusal is None

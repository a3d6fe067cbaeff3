from hypothesis import given
from hypothesis import strategies as st

from deepclust.common.head_choice import choose_heads

RUN = st.tuples(st.integers(0, 3), st.none() | st.floats(-1, 1), st.none() | st.floats(0, 1))


@given(st.lists(RUN, max_size=12))
def test_the_choice_sees_no_accuracy_and_the_oracle_nothing_else(runs):
    settings, criterion, accuracy = zip(*runs) if runs else ((), (), ())
    choices = choose_heads(settings, criterion, accuracy)
    blind = choose_heads(settings, criterion, [None] * len(runs))
    assert [(c.compared, c.chosen) for c in choices] == [(c.compared, c.chosen) for c in blind]
    for choice in choices:
        assert len({settings[position] for position in choice.compared}) == 1 < len(choice.compared)
        assert criterion[choice.chosen] == max(criterion[position] for position in choice.compared)
        known = [accuracy[position] for position in choice.compared if accuracy[position] is not None]
        assert (accuracy[choice.best] == max(known)) if known else (choice.best is None)
    compared = [position for choice in choices for position in choice.compared]
    assert len(compared) == len(set(compared))

# %% [markdown]
# # Lesson 99: thrown away
#
# One small exercise of every kind.

# %%
from __future__ import annotations

import os

import numpy as np

import autograder.lessons
from autograder.notebook import check, quiz, task
from course_lib import parts

# The checks of a lesson that is thrown away are not in the package.
autograder.lessons.__path__.append(os.path.join(os.environ["COURSE_ROOT"], "checks"))

# %% [markdown]
# ## 1. Values and functions

# %% exercise="99.1"
slots = None
### BEGIN SOLUTION
slots = 4 * 16
### END SOLUTION

# %% check="99.1"
check("99.1", slots)

# %% exercise="99.2"

# %% check="99.2"

# %% exercise="99.3" steps="The largest score|Weights between"

# %% check="99.3"

# %% [markdown]
# ## 2. Classes and objects

# %% exercise="99.4" holes="*"

# %% check="99.4"

# %% exercise="99.5"

# %% check="99.5"

# %% exercise="99.6"

# %% check="99.6"

# %% [markdown]
# ## 3. A kernel

# %% exercise="99.7" steps="One lane for|From the token's place"

# %% check="99.7"

# %% [markdown]
# ## 4. A checker, by hand, lines in order

# %% exercise="99.8"
def find_violations(pool):
    """Return one sentence for each thing that is wrong with a pool."""
    ### BEGIN SOLUTION
    queued = [block.block_id for block in pool.free_block_queue]
    return [
        f"block {block.block_id} is held by {block.ref_cnt}"
        for block in pool.blocks[1:]
        if (block.block_id in queued) != (block.ref_cnt == 0)
    ]
    ### END SOLUTION

# %% check="99.8"

# %% exercise="99.9"
answer = {"seed": 1}
### BEGIN SOLUTION
answer["after step 1"] = [2, 3, 4, 5, 1]
answer["after step 2"] = [3, 4, 5, 1, 2]
answer["after step 3"] = [5, 1, 2, 4, 3]
### END SOLUTION

# %% check="99.9"
check("99.9", answer)

# %% exercise="99.10"

# %% check="99.10"

# %% [markdown]
# ## 5. Budgets and a policy

# %% exercise="99.11"
def digit_counts(digits):
    """Return how often each of the digits 0 to 9 occurs."""
    ### BEGIN SOLUTION
    return np.bincount(digits, minlength=10)
    ### END SOLUTION

# %% check="99.11"

# %% exercise="99.12"
def largest(fits, at_most=64):
    """Return the largest number that fits; if a number fits, all smaller ones do."""
    ### BEGIN SOLUTION
    enough, too_many = 0, at_most + 1
    while too_many - enough > 1:
        middle = (enough + too_many) // 2
        if fits(middle):
            enough = middle
        else:
            too_many = middle
    return enough
    ### END SOLUTION

# %% check="99.12"

# %% exercise="99.13"
def choose(left, right):
    """Return the line to join, 0 or 1, by the minutes of work in each."""
    ### BEGIN SOLUTION
    return 0 if left <= right else 1
    ### END SOLUTION

# %% check="99.13"
check("99.13", choose)

# %% [markdown]
# ## 6. Quiz

# %% quiz="99"

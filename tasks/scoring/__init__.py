"""Score: answers against what a person says is right, cell by cell, and what may be concluded from so few images.

values          when two values are the same
cells           right, wanted and given cells of one answer
statistics      intervals, paired tests
scores          answers of runs -> scored
best_variant    the cheapest variant that holds, and why
comparison      a comparison that has ended
readings        how sure an answer looks, how far two readings agree
answer_columns  what a typed row says of its answer

The score of an image is value F1 as ExtractBench has it: an answer is flattened to cells, items of lists are paired by
the Hungarian algorithm, a missing key is null and a right null counts; the mean over images is the variant's score.
"""

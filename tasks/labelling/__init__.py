"""Labels: what a person says is right, in; rows for labelling tools, out.

truth         files of labels -> labels by image     typing        a label's value as the schema has it
controls      how a field is labelled by hand        label_studio  tasks and exports of Label Studio
exporting     a run's rows, and what variants answer differently, as files
"""

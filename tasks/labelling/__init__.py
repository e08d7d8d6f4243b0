"""Labels: what a person says is right, in; rows for labelling tools, out.

truth         files of labels -> labels by image     typing        a label's value as the schema has it
matching      which image a label is of              label_studio  tasks and exports of Label Studio
controls      how a field is labelled by hand        exporting     a run's rows as files
disagreements what variants answer differently, as files to label
"""

"""The books of a conversion: nothing read goes missing unnamed."""

import collections
import dataclasses

_FIRST_IDS = 5


@dataclasses.dataclass
class Ledger:
  """Where every image and annotation went: written, or rejected and why."""
  images_read: int = 0
  images_written: int = 0
  annotations_read: int = 0
  annotations_written: int = 0
  rejected: collections.Counter = dataclasses.field(
      default_factory=collections.Counter)
  rejected_images: collections.Counter = dataclasses.field(
      default_factory=collections.Counter)
  first_ids: dict = dataclasses.field(default_factory=dict)

  def reject(self, reason, annotation_id):
    """Notes an annotation that is left out."""
    self.rejected[reason] += 1
    self._remember(reason, [annotation_id])

  def reject_image(self, reason, image_id, annotations):
    """Rejects an image, and with it all its annotations."""
    self.rejected_images[reason] += 1
    self._remember('image: ' + reason, [image_id])
    for annotation in annotations:
      self.reject('its image was rejected', annotation['id'])

  def add(self, other):
    """Adds the counts of another part of the data set."""
    for field in dataclasses.fields(self):
      if field.name != 'first_ids':
        total = getattr(self, field.name) + getattr(other, field.name)
        setattr(self, field.name, total)
    for reason, ids in other.first_ids.items():
      self._remember(reason, ids)

  def check(self):
    """Raises RuntimeError unless everything read is accounted for."""
    for what, read, written, rejected in (
        ('images', self.images_read, self.images_written,
         self.rejected_images),
        ('annotations', self.annotations_read, self.annotations_written,
         self.rejected)):
      if read != written + sum(rejected.values()):
        raise RuntimeError(f'{what}: read {read}, but wrote {written} and '
                           f'rejected {sum(rejected.values())}')

  def _remember(self, reason, ids):
    known = self.first_ids.setdefault(reason, [])
    known.extend(ids[:_FIRST_IDS - len(known)])

  def __str__(self):
    """The counts, and a line for each reason with the first ids."""
    lines = [f'images: {self.images_read} read, {self.images_written} written, '
             f'{sum(self.rejected_images.values())} rejected',
             f'annotations: {self.annotations_read} read, '
             f'{self.annotations_written} written, '
             f'{sum(self.rejected.values())} rejected']
    for prefix, counter in (('image: ', self.rejected_images),
                            ('', self.rejected)):
      for reason, count in sorted(counter.items()):
        # An id may be any text: half characters, line ends, a whole novel.
        first = ', '.join(f'{ascii(i):.60}'
                          for i in self.first_ids[prefix + reason])
        lines.append(f'  {count} x {prefix}{reason} (first ids: {first})')
    return '\n'.join(lines)

"""What tests of the listing share."""

from tasks.listing import Listing


def names(listing: Listing) -> list[str]:
    return [image.name for image in listing.images]

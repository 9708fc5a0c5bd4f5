"""A folder of photographs and masks, as people have it, made a data set in VOC layout that the nets here can learn from.

read(...) looks at everything and raises OwnDataError with all that is wrong before anything is written; write(...) writes.
Masks hold class indices (gray, palette, or 0 and 255) or colours; own_masks.py says what is understood how.
"""
from __future__ import division, print_function

import collections
import os
import random
import shutil

from PIL import Image

import own_masks
import runlog
import segfiles
import vis
from own_masks import OwnDataError

IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.ppm', '.gif', '.webp')
# how folders of images and of their masks are called in data sets people have
PAIRS = (('JPEGImages', 'SegmentationClass'), ('images', 'masks'), ('images', 'labels'), ('images', 'annotations'),
         ('imgs', 'masks'), ('img', 'mask'), ('701_StillsRaw_full', 'LabeledApproved_full'))
CLASS_FILES = ('classes.txt', 'label_colors.txt')
MOST = 5                # of each kind of problem so many are listed
ORIENTATION = 0x0112    # the EXIF tag of how the camera was held; 1 is upright

# A photograph. name: its id. size: its (width, height), upright. turned: it has to be turned to be upright.
Pair = collections.namedtuple('Pair', 'name image mask size turned')
# All that is to be written: pairs, their classes, and the ids of the two lists.
OwnData = collections.namedtuple('OwnData', 'pairs classes train val')


def read(folder=None, images=None, masks=None, classes=None, val=None, seed=1337, labelled_only=False, say=print):
    """The OwnData of a folder (see `folders`), or of a folder of images and one of masks.

    classes: file of the classes, if it is not in the folder. val: file that lists the images to score, or the share of them
    to draw, 0..1; if it is left out: the folder's own lists, or a fifth. labelled_only: leave out images without a mask.
    say: called with each line of what was found. OwnDataError with everything that is wrong, a line each.
    """
    found = [(images, masks, None)] if images else folders(folder)
    for path in (path for triple in found for path in triple[:2]):
        if not os.path.isdir(path):
            raise OwnDataError('%s: no such folder' % path)
    path = classes or next((os.path.join(folder, name) for name in CLASS_FILES if os.path.exists(os.path.join(folder, name)))
                           if folder else iter(()), None)
    files, parts = [], {}
    for images, masks, part in found:
        matched = match(images, masks, labelled_only, say)
        files += matched
        parts.setdefault(part, []).extend(name for name, _, _ in matched)
    names = [name for name, _, _ in files]
    twice = sorted(name for name, count in collections.Counter(names).items() if count > 1)
    if twice:
        raise OwnDataError('%d ids are those of several images: %s; rename one of each' % (len(twice), listed(twice)))
    if path is None:
        raise OwnDataError('no list of classes: wanted %s in the folder, or --classes FILE, one name a line in the order of '
                           'the indices, or `red green blue name` for coloured masks. %s'
                           % (CLASS_FILES[0], own_masks.contents([mask for _, _, mask in files])))
    classes = own_masks.Classes(path)
    pairs, problems = check(files, classes)
    problems += classes.settle(say)
    if problems:
        raise OwnDataError('\n'.join(problems))
    train, val = split(names, parts, folder, val, seed, say)
    return OwnData(pairs, classes, train, val)


# -- finding -----------------------------------------------------------------------------------------------------------
def folders(folder):
    """[(folder of images, folder of masks, 'train', 'val' or None)] of a data set. OwnDataError if none is recognized.

    Recognized: the PAIRS of names above, each perhaps divided into train/ and val/; and train/ beside trainannot/, val/
    beside valannot/.
    """
    if not os.path.isdir(folder):
        raise OwnDataError('%s: no such folder' % folder)
    there = dict((name.lower(), os.path.join(folder, name)) for name in sorted(os.listdir(folder))
                 if os.path.isdir(os.path.join(folder, name)))
    for images, masks in PAIRS:
        if images.lower() in there and masks.lower() in there:
            both = there[images.lower()], there[masks.lower()]
            divided = [tuple(os.path.join(path, part) for path in both) + (part,) for part in ('train', 'val')
                       if all(os.path.isdir(os.path.join(path, part)) for path in both)]
            return divided or [both + (None,)]
    found = [(there[part], there[part + 'annot'], part) for part in ('train', 'val')
             if part in there and part + 'annot' in there]
    if found:
        return found
    raise OwnDataError('%s: no folders of images and masks recognized (there %s); say which they are with --images and '
                       '--masks, or call them images and masks'
                       % (folder, 'are ' + ', '.join(sorted(os.path.basename(path) for path in there.values()))
                          if there else 'are no folders'))


def files_in(folder):
    """{name without ending: path} of the image files in a folder. OwnDataError if there are none, or two of one name."""
    found = {}
    for name in sorted(os.listdir(folder)):
        stem, ending = os.path.splitext(name)
        if ending.lower() in IMAGES and not name.startswith('.'):
            if stem in found:
                raise OwnDataError('%s: %s and %s have the same name; rename one'
                                   % (folder, os.path.basename(found[stem]), name))
            found[stem] = os.path.join(folder, name)
    if not found:
        raise OwnDataError('%s: no images there; wanted files ending in %s' % (folder, ', '.join(IMAGES)))
    return found


def match(images_folder, masks_folder, labelled_only, say):
    """[(id, image, mask)] of two folders: a mask is named like its image, or so with something added in all names."""
    images, masks = files_in(images_folder), files_in(masks_folder)
    added, paired = ('', ''), [name for name in images if name in masks]
    if not paired:
        first = sorted(masks)[0]
        inside = [name for name in images if name in first]
        if inside:
            name = max(inside, key=len)
            added = tuple(first.split(name, 1))
            paired = [name for name in images if name.join(added) in masks]
            say('masks are named like their images, with %s added: %s' % (' and '.join(a for a in added if a), first))
    lacking = sorted(set(images) - set(paired))
    unused = sorted(set(masks) - set(name.join(added) for name in paired))
    if not paired or lacking and not labelled_only:
        raise OwnDataError('%s: %d of %d images have no mask in %s: %s; wanted a mask named like each image%s'
                           % (images_folder, len(lacking), len(images), masks_folder, listed(lacking),
                              ', or --labelled-only to leave these images out' if paired else
                              ' (the masks are called %s)' % listed(sorted(masks))))
    for what, names in (('images without a mask', lacking), ('masks without an image', unused)):
        if names:
            say('%d %s are left out: %s' % (len(names), what, listed(names)))
    strange = [name for name in paired if name != name.strip()]
    if strange:
        raise OwnDataError('%s: names that begin or end with a blank: %r; rename them' % (images_folder, strange[:MOST]))
    return [(name, images[name], masks[name.join(added)]) for name in sorted(paired)]


def listed(names):
    """The first names of some, for a message."""
    return ', '.join(names[:MOST]) + (', ...' if len(names) > MOST else '')


# -- checking ----------------------------------------------------------------------------------------------------------
def check(files, classes):
    """([Pair], [problem]) of (id, image, mask) triples. Each mask's values are counted in `classes`."""
    pairs, problems = [], []
    for name, image_path, mask_path in files:
        try:
            image = segfiles.open_image(image_path)
            if image.mode in segfiles.DEEP_MODES:
                raise OwnDataError('%s: more than 8 bits a channel (mode %s); convert it to 8' % (image_path, image.mode))
            mask = own_masks.open_mask(mask_path)
            size, turned = upright_size(image, mask.size)
            if mask.size != size:
                raise OwnDataError('%s: %d x %d (width x height), its image %s is %d x %d; wanted one size: a mask has a '
                                   'class for each pixel' % ((mask_path,) + mask.size + (image_path,) + size))
            classes.count(mask, mask_path)
            pairs.append(Pair(name, image_path, mask_path, size, turned))
        except ValueError as error:
            problems.append(str(error))
    if len(problems) > MOST:
        problems[MOST:] = ['and %d more like these' % (len(problems) - MOST)]
    return pairs, problems


def upright_size(image, mask_size):
    """((width, height), whether the image has to be turned): phones store a photograph as it lay in the camera.

    A photograph is turned as its EXIF data say, which is how programs show it, and so how a mask was drawn; unless the mask
    fits only the photograph as it is stored.
    """
    orientation = getattr(image, 'getexif', dict)().get(ORIENTATION, 1)     # an old Pillow cannot say
    size = image.size[::-1] if orientation in (5, 6, 7, 8) else image.size
    if orientation in range(2, 9) and not (mask_size == image.size != size):
        return size, True
    return image.size, False


# -- lists -------------------------------------------------------------------------------------------------------------
def split(names, parts, folder, val, seed, say):
    """(ids to train on, ids to score), both sorted. OwnDataError for a list that does not fit. See `read`."""
    lists = dict((part, ids) for part, ids in parts.items() if part)
    if val is not None and not isinstance(val, float):
        lists = {'val': read_ids(val, names)}
    elif val is None and not lists and folder:
        for part in ('train', 'val'):
            there = [path for path in (os.path.join(folder, 'ImageSets', 'Segmentation', part + '.txt'),
                                       os.path.join(folder, part + '.txt')) if os.path.exists(path)]
            if there:
                lists[part] = read_ids(there[0], names)
    if not lists or list(lists) == ['train'] and len(lists['train']) == len(names):
        share = 0.2 if val is None else val
        count = int(share * len(names) + 0.5)
        if not 0 < count < len(names):
            raise OwnDataError('%g of %d images are %d to score; wanted at least one, and one to train on'
                               % (share, len(names), count))
        stream = random.Random(seed)    # whose random() is the same on any Python, unlike its shuffle()
        lists = {'val': sorted(sorted(names), key=lambda name: stream.random())[:count]}
        say('%d of %d images are drawn to be scored (seed %d)' % (count, len(names), seed))
    train, val = lists.get('train'), lists.get('val')
    train = sorted(set(names) - set(val)) if train is None else sorted(train)
    val = sorted(set(names) - set(train)) if val is None else sorted(val)
    both, neither = sorted(set(train) & set(val)), len(set(names) - set(train) - set(val))
    if both or not train or not val:
        raise OwnDataError('%d images to train on and %d to score, %d are both%s; wanted some of each and none of both'
                           % (len(train), len(val), len(both), ': ' + listed(both) if both else ''))
    if neither:
        say('%d images are on neither list and are left out' % neither)
    return train, val


def read_ids(path, names):
    """The ids that a file lists, one a line: as they are, or as file names, with or without folder, or image and mask."""
    found, unknown = [], []
    for line in segfiles.read_list(path):
        for text in (line, line.split()[0]):
            base = os.path.basename(text)
            name = next((n for n in (base, os.path.splitext(base)[0]) if n in names), None)
            if name:
                break
        (found if name else unknown).append(name or line)
    if unknown:
        raise OwnDataError('%s: %d of %d lines name no image that is there: %s'
                           % (path, len(unknown), len(unknown) + len(found), listed(unknown)))
    return sorted(set(found))


# -- writing -----------------------------------------------------------------------------------------------------------
def write(data, target, side=0, say=print):
    """Write an OwnData in VOC layout to the new folder `target`, complete or not at all.

    Photographs are linked to (or copied, on another disk) as they are, under the name <id>.jpg, whatever they are: readers
    go by the contents. side: those longer than this are scaled down to it, masks too; 0: none.
    """
    if os.path.exists(target):
        raise OwnDataError('%s is there already; choose another name, or remove it' % target)
    partial = target + '.partial'
    shutil.rmtree(partial, ignore_errors=True)
    folder_of = dict((name, os.path.join(partial, *name.split('/')))
                     for name in ('JPEGImages', 'SegmentationClass', 'ImageSets/Segmentation'))
    try:
        for path in folder_of.values():
            os.makedirs(path)
        wanted, scaled, turned = set(data.train) | set(data.val), 0, 0
        for pair in data.pairs:
            if pair.name in wanted:
                factor = min(1., side / max(pair.size)) if side else 1.
                scaled, turned = scaled + (factor < 1), turned + pair.turned
                size = tuple(max(1, int(factor * s + 0.5)) for s in pair.size)
                write_image(pair, size, os.path.join(folder_of['JPEGImages'], pair.name + '.jpg'))
                mask = own_masks.open_mask(pair.mask)
                seg = Image.fromarray(data.classes.indices(mask)).resize(size, Image.NEAREST)
                vis.save_indexed(os.path.join(folder_of['SegmentationClass'], pair.name + '.png'), seg)
        for name, ids in (('train', data.train), ('val', data.val)):
            runlog.write_atomic(os.path.join(folder_of['ImageSets/Segmentation'], name + '.txt'), '\n'.join(ids) + '\n')
        runlog.write_atomic(os.path.join(partial, 'classes.txt'), '\n'.join(data.classes.names) + '\n')
        os.rename(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    largest = max(max(pair.size) for pair in data.pairs)
    if scaled:
        say('%d of %d photographs are scaled down to %d pixels on the longer side (the largest has %d), their masks too; '
            '--side says to how many, 0 leaves them as they are' % (scaled, len(wanted), side, largest))
    if turned:
        say('%d photographs are turned upright, as the camera noted' % turned)


def write_image(pair, size, path):
    """Write the photograph of a Pair: linked or copied if it stays as it is, otherwise upright and of this size."""
    if size == pair.size and not pair.turned:
        try:
            os.link(os.path.realpath(pair.image), path)
        except OSError:     # another disk, or a file system without links
            shutil.copyfile(pair.image, path)
        return
    image = segfiles.open_image(pair.image)
    if pair.turned:
        image = upright(image)
    image = image.convert('RGB')
    if size != pair.size:
        image = image.resize(size, Image.LANCZOS)
    image.save(path, 'JPEG', quality=95)


def upright(image):
    """The image turned as its EXIF data say."""
    turns = {2: (Image.FLIP_LEFT_RIGHT,), 3: (Image.ROTATE_180,), 4: (Image.FLIP_TOP_BOTTOM,),
             5: (Image.TRANSPOSE,), 6: (Image.ROTATE_270,), 7: (Image.FLIP_TOP_BOTTOM, Image.ROTATE_90),
             8: (Image.ROTATE_90,)}
    for turn in turns[image.getexif()[ORIENTATION]]:
        image = image.transpose(turn)
    return image
